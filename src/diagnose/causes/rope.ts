import type { GraphNode } from "../../spec/graph.js";
import { identity } from "../../spec/ops/identity.js";
import { type RopeAttributes, rope } from "../../spec/ops/rope.js";
import { roundTo } from "../../tensor/dtype.js";
import { isDecoded } from "./append.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { type CauseFamily, hypothesis, type Proposal } from "./proposal.js";
import { fittedRotations } from "./rotation.js";
import { replaced } from "./transform.js";

const thetas = [1e4, 2.5e4, 1e5, 1.5e5, 5e5, 1e6, 5e6, 1e7];
const linearScales = [0.25, 0.5, 2, 4, 8, 16, 32, 64];
const offsets = [1, -1, 2, -2, 3, -3, 4, -4];

/** RoPE: presence, direction, pairing, frequencies, positions. */
export const ropeCauses: CauseFamily = (proposal) => {
  const { site } = proposal;
  if (site.op.kind !== "rope") return [];
  const a = site.op.attributes as unknown as RopeAttributes;
  const rewrite = (change: Partial<RopeAttributes>) => [replaced(site, { op: rope({ ...a, ...change }) })];
  const inner: GraphNode = { ...site, name: `${site.name}.once` };
  const half = a.rotaryDim / 2;
  const out = [
    hypothesis("rope-missing", site, [replaced(site, { op: identity() })], {
      kind: "seam",
      transform: "T5",
      statement: "RoPE is not applied",
    }),
    hypothesis("rope-twice", site, [inner, replaced(site, { inputs: [inner.name] })], {
      kind: "seam",
      transform: "T13",
      statement: "RoPE is applied twice: both sides of a seam rotate",
    }),
    hypothesis("rope-reversed", site, rewrite({ sine: (_, sin) => -sin }), {
      kind: "kernel",
      transform: "T5",
      statement: "RoPE rotates backwards: the sine has the wrong sign",
    }),
    hypothesis("rope-interleaved", site, rewrite({ pairing: a.pairing === "half" ? "interleaved" : "half" }), {
      kind: "parameter",
      transform: "T5",
      statement:
        "RoPE pairs neighbouring channels (GPT-J, interleaved) where the model pairs the two halves of a head (NeoX)",
    }),
    hypothesis("rope-sine-dropped", site, rewrite({ sine: () => 0 }), {
      kind: "kernel",
      transform: "T6",
      statement: "the sine term of RoPE is dropped: channels are only multiplied by the cosine",
    }),
    hypothesis("rope-sine-cosine-swapped", site, rewrite({ cosine: (_, sin) => sin, sine: (cos) => cos }), {
      kind: "parameter",
      transform: "T5",
      statement:
        "RoPE uses the sine where the cosine belongs and the reverse: the halves of the cos/sin table are swapped",
    }),
    hypothesis("rope-table-interleaved", site, rewrite({ channelFrequencies: interleavedTable(a) }), {
      kind: "parameter",
      transform: "T5",
      statement: "the frequencies of the RoPE table are repeated pairwise while channels pair by halves",
    }),
  ];
  if (a.attentionFactor !== 1) {
    for (const [attentionFactor, what] of [
      [1, "left out of"],
      [a.attentionFactor ** 2, "multiplied twice into"],
    ] as const) {
      out.push(
        hypothesis("rope-attention-factor", site, rewrite({ attentionFactor }), {
          kind: "parameter",
          transform: "T6",
          parameters: { factor: attentionFactor, expected: a.attentionFactor },
          statement: `the attention factor ${short(a.attentionFactor)} of the config's rope scaling is ${what} cos and sin`,
        }),
      );
    }
  }
  for (const factor of [0.25, 0.5, 0.75]) {
    const rotaryDim = Math.round((a.headDim * factor) / 2) * 2;
    if (rotaryDim <= 0 || rotaryDim >= a.headDim) continue;
    const own = Float64Array.from(
      { length: rotaryDim / 2 },
      (_, j) => 1 / (1 / a.inverseFrequencies[1]!) ** ((j * half) / (rotaryDim / 2)),
    );
    for (const [frequencies, table] of [
      [a.inverseFrequencies.subarray(0, rotaryDim / 2), "of the whole head"],
      [own, "of the rotated part"],
    ] as const) {
      out.push(
        hypothesis("rope-partial", site, rewrite({ rotaryDim, inverseFrequencies: Float64Array.from(frequencies) }), {
          kind: "parameter",
          transform: "T5",
          parameters: { rotaryDim, table },
          statement: `RoPE rotates ${rotaryDim} of ${a.headDim} channels, with the frequencies ${table}`,
        }),
      );
    }
  }
  return [...out, ...frequencies(proposal, a), ...positions(proposal, a), ...fittedRotations(proposal, a)];
};

/** f0 f0 f1 f1 …: a table laid out for interleaved pairs, read by halves. */
function interleavedTable({ inverseFrequencies, rotaryDim }: RopeAttributes): Float64Array {
  return Float64Array.from({ length: rotaryDim }, (_, channel) => inverseFrequencies[channel >> 1]!);
}

function frequencies({ site, investigation, finding }: Proposal, a: RopeAttributes): Hypothesis[] {
  const out: Hypothesis[] = [];
  const width = a.inverseFrequencies.length;
  const rewrite = (inverseFrequencies: Float64Array) => [replaced(site, { op: rope({ ...a, inverseFrequencies }) })];
  for (const theta of thetas) {
    if (theta === investigation.config.ropeTheta) continue;
    out.push(
      hypothesis("rope-theta", site, rewrite(Float64Array.from({ length: width }, (_, j) => theta ** (-j / width))), {
        kind: "parameter",
        transform: "T5",
        parameters: { theta, expected: investigation.config.ropeTheta },
        statement: `RoPE uses theta ${short(theta)} where the config says ${short(investigation.config.ropeTheta)}`,
      }),
    );
  }
  const plain = Float64Array.from({ length: width }, (_, j) => investigation.config.ropeTheta ** (-j / width));
  const isPlain = (other: Float64Array) => plain.every((f, j) => Math.abs(f - other[j]!) <= 1e-9 * f);
  for (const factor of linearScales) {
    if (isPlain(a.inverseFrequencies.map((f) => f / factor))) continue;
    out.push(
      hypothesis("rope-linear-scale", site, rewrite(a.inverseFrequencies.map((f) => f / factor)), {
        kind: "parameter",
        transform: "T5",
        parameters: { factor },
        statement: `RoPE angles are divided by ${factor}: a linear scaling the config does not have`,
      }),
    );
  }
  for (const dtype of ["bfloat16", "float16"] as const) {
    out.push(
      hypothesis("rope-angles-rounded", site, [replaced(site, { op: rope({ ...a, angleType: dtype }) })], {
        kind: "parameter",
        transform: "T5",
        parameters: { dtype },
        statement: `positions, frequencies and angles of RoPE are kept in ${dtype}: later tokens share angles`,
      }),
      hypothesis("rope-frequencies-rounded", site, rewrite(a.inverseFrequencies.map((f) => roundTo(f, dtype))), {
        kind: "parameter",
        transform: "T5",
        parameters: { dtype },
        statement: `the inverse frequencies of RoPE are rounded to ${dtype}: angles drift with position`,
      }),
    );
  }
  if (!isPlain(a.inverseFrequencies)) {
    out.push(
      hypothesis("rope-scaling-ignored", site, rewrite(plain), {
        kind: "parameter",
        transform: "T5",
        statement: "RoPE ignores the config's rope scaling",
      }),
    );
  }
  const near = site.name === finding.node.name ? otherThetas(a, investigation.config.ropeTheta, site, rewrite) : [];
  return [...out, ...near];
}

/** Round thetas that no list has. */
function otherThetas(
  a: RopeAttributes,
  expected: number,
  site: GraphNode,
  rewrite: (f: Float64Array) => GraphNode[],
): Hypothesis[] {
  const width = a.inverseFrequencies.length;
  const out: Hypothesis[] = [];
  for (let decade = 2; decade <= 8; decade++) {
    for (const digit of [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 7.5, 8, 9]) {
      const theta = digit * 10 ** decade;
      if (thetas.includes(theta) || theta === expected) continue;
      out.push(
        hypothesis("rope-theta", site, rewrite(Float64Array.from({ length: width }, (_, j) => theta ** (-j / width))), {
          kind: "parameter",
          transform: "T5",
          parameters: { theta, expected },
          statement: `RoPE uses theta ${short(theta)} where the config says ${short(expected)}`,
        }),
      );
    }
  }
  return out;
}

function positions({ site, investigation, finding }: Proposal, a: RopeAttributes): Hypothesis[] {
  const { observations } = investigation;
  const rewrite = (positionOf: (row: number, position: number) => number) => [
    replaced(site, { op: rope({ ...a, positionOf }) }),
  ];
  const out = offsets.map((offset) =>
    hypothesis(
      "position-offset",
      site,
      rewrite((_, position) => position + offset),
      {
        kind: "metadata",
        transform: "T5",
        parameters: { offset },
        statement: `RoPE positions are off by ${offset > 0 ? "+" : ""}${offset}`,
      },
    ),
  );
  const table = observations.rows;
  // Where the rotation was recorded, its rows say by themselves which of them are off.
  const decoding = !observations.has(site.name) && table.stepOf.some((_, row) => isDecoded(table, row));
  for (const offset of decoding ? [1, -1, 2, -2] : []) {
    out.push(
      hypothesis(
        "position-offset",
        site,
        rewrite((row, position) => position + (isDecoded(table, row) ? offset : 0)),
        {
          kind: "metadata",
          transform: "T5",
          parameters: { offset, steps: "decode" },
          statement: `in decode steps RoPE positions are off by ${offset > 0 ? "+" : ""}${offset}`,
        },
      ),
    );
  }
  out.push(
    hypothesis(
      "position-restarts",
      site,
      rewrite((row) => row - table.steps[table.stepOf[row]!]!.firstRow),
      {
        kind: "metadata",
        transform: "T5",
        statement:
          "RoPE positions are row numbers of the step: they run on across sequences and forget what came before",
      },
    ),
    hypothesis(
      "position-reversed",
      site,
      rewrite((row, position) => table.keyCount(row) - 1 - position),
      {
        kind: "metadata",
        transform: "T5",
        statement: "RoPE positions run backwards",
      },
    ),
  );
  const { padding } = investigation.capture;
  if (padding && investigation.capture.steps.length === 1) {
    out.push(
      hypothesis(
        "position-pads-counted",
        site,
        rewrite((row) => padding.places[row]! % padding.tokens),
        {
          kind: "metadata",
          transform: "T5",
          statement: "RoPE positions count the pad tokens, which the others do not",
        },
      ),
    );
  }
  const last = Math.max(...Array.from(finding.comparison.rows, (row) => table.position[row]!));
  for (const [dtype, exactUpTo] of [
    ["bfloat16", 2 ** 8],
    ["float16", 2 ** 11],
  ] as const) {
    if (last <= exactUpTo) continue;
    out.push(
      hypothesis(
        "positions-rounded",
        site,
        rewrite((_, position) => roundTo(position, dtype)),
        {
          kind: "metadata",
          transform: "T5",
          parameters: { dtype },
          statement: `RoPE positions pass through ${dtype}, which is exact only up to ${exactUpTo}: later tokens share angles`,
        },
      ),
    );
  }
  for (let limit = 2; limit <= Math.min(last, 64); limit++) out.push(...clamped(limit));
  for (let limit = 128; limit <= last; limit *= 2) out.push(...clamped(limit));
  return out;

  function clamped(limit: number): Hypothesis[] {
    return [
      hypothesis(
        "rope-table-clamped",
        site,
        rewrite((_, position) => Math.min(position, limit - 1)),
        {
          kind: "parameter",
          transform: "T5",
          parameters: { entries: limit },
          statement: `the RoPE table has ${limit} positions; later tokens use its last one`,
        },
      ),
      hypothesis(
        "rope-table-wrapped",
        site,
        rewrite((_, position) => position % limit),
        {
          kind: "parameter",
          transform: "T5",
          parameters: { entries: limit },
          statement: `RoPE positions start over after ${limit}`,
        },
      ),
    ];
  }
}
