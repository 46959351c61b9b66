import type { GraphNode } from "../../spec/graph.js";
import { identity } from "../../spec/ops/identity.js";
import { rope } from "../../spec/ops/rope.js";
import type { RopeAttributes } from "../../spec/ops/rope-attributes.js";
import type { CauseId } from "./catalogue.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** RoPE: presence, direction, pairing. */
export const ropeCauses = {
  "rope-missing": {
    kind: "seam",
    transform: "T5",
    legend: "Queries or keys are not rotated.",
    hiddenBy: "position 0",
    confusedWith: ["rope-twice", "rope-reversed", "key-unrotated"],
    report: ["sgl-project/sglang#19636", "a fused kernel rotated keys in the cache only, attention read the others"],
  },
  "rope-twice": {
    kind: "seam",
    transform: "T13",
    legend: "RoPE is applied twice: both sides of a seam rotate.",
    hiddenBy: "position 0",
    confusedWith: ["rope-missing", "rope-reversed", "rope-linear-scale"],
  },
  "rope-reversed": {
    kind: "kernel",
    transform: "T5",
    legend: "RoPE rotates backwards: the sine has the wrong sign.",
    hiddenBy: "position 0",
    confusedWith: ["rope-missing", "rope-twice"],
  },
  "rope-interleaved": {
    kind: "parameter",
    transform: "T5",
    legend: "RoPE pairs neighbouring channels where the model pairs the two halves of a head, or the reverse.",
    hiddenBy: "position 0",
    confusedWith: ["rope-table-interleaved", "heads-interleaved"],
    report: ["vllm-project/vllm#941", "GPT-J's pairs were taken for NeoX's"],
  },
  "rope-sine-dropped": {
    kind: "kernel",
    transform: "T6",
    legend: "The sine term of RoPE is dropped: channels are only multiplied by the cosine.",
    hiddenBy: "position 0",
    confusedWith: ["rope-reversed", "column-gain"],
    report: ["vllm-project/vllm-ascend#12723", "sines were read from the padded end of the table"],
  },
  "rope-sine-cosine-swapped": {
    kind: "parameter",
    transform: "T5",
    legend: "Sine and cosine are exchanged: the halves of the table are swapped.",
    hiddenBy: "never",
    confusedWith: ["position-offset", "rope-reversed"],
  },
  "rope-table-interleaved": {
    kind: "parameter",
    transform: "T5",
    legend: "The frequencies of the table are repeated pairwise while channels pair by halves.",
    hiddenBy: "position 0",
    confusedWith: ["rope-interleaved", "rope-frequencies"],
  },
  "rope-partial": {
    kind: "parameter",
    transform: "T5",
    legend: "RoPE rotates a part of each head's channels only.",
    hiddenBy: "position 0",
    confusedWith: ["rope-frequencies", "rope-missing"],
    report: ["vllm-project/vllm#43676", "the rotary width of the model did not reach the kernel"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(ropeCauses);
const isRope = ofKind("rope");
const attributesOf = ({ site }: Proposal) => site.op.attributes as unknown as RopeAttributes;

/** A search with one rewrite: other settings of the rotation. */
function settings(
  cause: keyof typeof ropeCauses & CauseId,
  statement: string,
  change: (a: RopeAttributes) => Partial<RopeAttributes>,
): Search {
  return {
    causes: [cause],
    stage: "large",
    appliesTo: isRope,
    rewrites(proposal) {
      const a = attributesOf(proposal);
      const op = rope({ ...a, ...change(a) });
      return [hypothesis(cause, proposal.site, [replaced(proposal.site, { op })], { statement })];
    },
  };
}

export const ropeSearches: readonly Search[] = [
  {
    causes: ["rope-missing"],
    stage: "large",
    appliesTo: isRope,
    rewrites: ({ site }) => [
      hypothesis("rope-missing", site, [replaced(site, { op: identity() })], { statement: "RoPE is not applied" }),
    ],
  },
  {
    causes: ["rope-twice"],
    stage: "large",
    appliesTo: isRope,
    rewrites({ site }) {
      const inner: GraphNode = { ...site, name: `${site.name}.once` };
      return [
        hypothesis("rope-twice", site, [inner, replaced(site, { inputs: [inner.name] })], {
          statement: "RoPE is applied twice: both sides of a seam rotate",
        }),
      ];
    },
  },
  settings("rope-reversed", "RoPE rotates backwards: the sine has the wrong sign", () => ({
    sine: (_, sin) => -sin,
  })),
  settings(
    "rope-interleaved",
    "RoPE pairs neighbouring channels (GPT-J, interleaved) where the model pairs the two halves of a head (NeoX)",
    ({ pairing }) => ({ pairing: pairing === "half" ? "interleaved" : "half" }),
  ),
  settings("rope-sine-dropped", "the sine term of RoPE is dropped: channels are only multiplied by the cosine", () => ({
    sine: () => 0,
  })),
  settings(
    "rope-sine-cosine-swapped",
    "RoPE uses the sine where the cosine belongs and the reverse: the halves of the cos/sin table are swapped",
    () => ({ cosine: (_, sin) => sin, sine: (cos) => cos }),
  ),
  settings(
    "rope-table-interleaved",
    "the frequencies of the RoPE table are repeated pairwise while channels pair by halves",
    (a) => ({ channelFrequencies: interleavedTable(a) }),
  ),
  { causes: ["rope-partial"], stage: "large", appliesTo: isRope, rewrites: partial },
];

/** f0 f0 f1 f1 …: a table laid out for interleaved pairs, read by halves. */
function interleavedTable({ inverseFrequencies, rotaryDim }: RopeAttributes): Float64Array {
  return Float64Array.from({ length: rotaryDim }, (_, channel) => inverseFrequencies[channel >> 1]!);
}

function partial(proposal: Proposal): Hypothesis[] {
  const { site } = proposal;
  const a = attributesOf(proposal);
  const half = a.rotaryDim / 2;
  return [0.25, 0.5, 0.75].flatMap((factor) => {
    const rotaryDim = Math.round((a.headDim * factor) / 2) * 2;
    if (rotaryDim <= 0 || rotaryDim >= a.headDim) return [];
    const own = Float64Array.from(
      { length: rotaryDim / 2 },
      (_, j) => 1 / (1 / a.inverseFrequencies[1]!) ** ((j * half) / (rotaryDim / 2)),
    );
    return (
      [
        [a.inverseFrequencies.subarray(0, rotaryDim / 2), "of the whole head"],
        [own, "of the rotated part"],
      ] as const
    ).map(([frequencies, table]) => {
      const op = rope({ ...a, rotaryDim, inverseFrequencies: Float64Array.from(frequencies) });
      return hypothesis("rope-partial", site, [replaced(site, { op })], {
        parameters: { rotaryDim, table },
        statement: `RoPE rotates ${rotaryDim} of ${a.headDim} channels, with the frequencies ${table}`,
      });
    });
  });
}
