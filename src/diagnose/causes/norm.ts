import type { GraphNode } from "../../spec/graph.js";
import { identity } from "../../spec/ops/identity.js";
import { type RmsNormAttributes, rmsNorm } from "../../spec/ops/rmsnorm.js";
import { fitNumber } from "./fitted-number.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { fittedNorms } from "./norm-fitted.js";
import { type CauseFamily, hypothesis, lastName, type Proposal } from "./proposal.js";
import { replaced } from "./transform.js";

/** Powers of ten as configs have them, and what lies between them. */
const epsilons = [
  0, 0.1, 0.05, 0.02, 1e-2, 5e-3, 2e-3, 1e-3, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-12,
];

/** RMSNorm: epsilon, weight, order, extent of the mean. */
export const normCauses: CauseFamily = (proposal) => {
  const { site, investigation } = proposal;
  if (site.op.kind !== "rmsnorm") return [...normedAgain(proposal), ...rotatedBeforeNorm(proposal)];
  const a = site.op.attributes as unknown as RmsNormAttributes;
  const rewrite = (change: Partial<RmsNormAttributes>) => [replaced(site, { op: rmsNorm({ ...a, ...change }) })];
  const out: Hypothesis[] = [];
  for (const epsilon of epsilons) {
    if (epsilon === a.epsilon) continue;
    out.push(
      hypothesis("norm-epsilon", site, rewrite({ epsilon }), {
        kind: "parameter",
        transform: "T6",
        parameters: { epsilon },
        statement: `RMSNorm uses epsilon ${epsilon} where the config says ${a.epsilon}`,
      }),
    );
  }
  if (a.weight) {
    out.push(
      hypothesis("norm-weight-absent", site, rewrite({ weight: undefined }), {
        kind: "seam",
        transform: "T6",
        statement: "RMSNorm does not multiply by its weight",
      }),
    );
    for (const [weightOffset, storedOffset] of [
      [1, false],
      [1, true],
      [-1, false],
    ] as const) {
      out.push(
        hypothesis("norm-weight-offset", site, rewrite({ weightOffset, storedOffset }), {
          kind: "seam",
          transform: "T6",
          parameters: { offset: weightOffset },
          statement: `RMSNorm multiplies by weight ${weightOffset > 0 ? "+" : "-"} 1: the Gemma convention on weights that do not follow it, or the reverse`,
        }),
      );
    }
  }
  out.push(
    hypothesis("norm-mean-subtracted", site, rewrite({ centred: true }), {
      kind: "kernel",
      transform: "T6",
      statement: "the mean is subtracted first: a LayerNorm where the model has an RMSNorm",
    }),
    hypothesis("norm-missing", site, [replaced(site, { op: identity() })], {
      kind: "seam",
      transform: "T13",
      statement: "the norm is not applied: its input is passed on as it is",
    }),
    twice(site, [
      { ...site, name: `${site.name}.once` },
      { ...site, inputs: [`${site.name}.once`] },
    ]),
  );
  const { store } = investigation.precision;
  for (const storedStatistics of store === "float32" ? [] : (["rsqrt", "sqrt"] as const)) {
    out.push(
      hypothesis("norm-statistics-rounded", site, rewrite({ storedStatistics }), {
        kind: "kernel",
        transform: "T16",
        parameters: { dtype: store },
        statement: `squares, their mean and its root are kept in ${store}, not in float32`,
      }),
    );
  }
  if (hasZeroRow(proposal)) {
    out.push(
      hypothesis("norm-sum-overflow", site, rewrite({ sumLimit: 65504, sumError: 2 ** -10 }), {
        kind: "kernel",
        transform: "T10",
        parameters: { limit: 65504 },
        statement: "the sum of squares is kept in float16: rows beyond 65504 overflow and become 0",
      }),
    );
  }
  if (site.heads && site.heads > 1) {
    out.push(
      hypothesis("norm-across-heads", site, rewrite({ meanWidth: site.columns }), {
        kind: "kernel",
        transform: "T6",
        statement: `the mean of squares is taken over all ${site.heads} heads at once, not per head of ${a.width}`,
      }),
    );
  }
  return [
    ...out,
    ...fittedNorms(proposal, a, epsilons),
    ...divisors(proposal, a),
    ...otherWeights(proposal, a),
    ...afterRope(proposal),
  ];
};

/** A consumer that norms its operand although that was recorded as normed already. */
function normedAgain({ site, investigation }: Proposal): Hypothesis[] {
  const { graph, observations } = investigation;
  return site.inputs.flatMap((input, i) => {
    const norm = graph.find(input);
    if (norm?.op.kind !== "rmsnorm" || !observations.has(input)) return [];
    const again = { ...norm, name: `${site.name}.operand ${i} again`, inputs: [input] };
    return [twice(site, [again, { ...site, inputs: site.inputs.with(i, again.name) }])];
  });
}

function twice(site: GraphNode, replacements: GraphNode[]): Hypothesis {
  return hypothesis("norm-twice", site, replacements, {
    kind: "seam",
    transform: "T13",
    statement: "the norm is applied twice: both sides of the seam believe it is theirs",
  });
}

/** An overflowing sum leaves rows of zeros. */
function hasZeroRow({ finding }: Proposal): boolean {
  const { observed, rows, columns } = finding.comparison;
  return [...rows.keys()].some((r) =>
    observed.subarray(r * columns.length, (r + 1) * columns.length).every((x) => x === 0),
  );
}

/** Σx² divided by a padded or otherwise wrong width. */
function divisors(proposal: Proposal, a: RmsNormAttributes): Hypothesis[] {
  const { site, investigation } = proposal;
  const dividing = (divisor: number) => [replaced(site, { op: rmsNorm({ ...a, divisor }) })];
  const by = (divisor: number, fitted = 0) =>
    hypothesis("norm-divisor", site, dividing(divisor), {
      kind: "kernel",
      transform: "T6",
      fitted,
      ...(fitted > 0 && { heldOut: (_, c) => c % 2 === 1 }),
      parameters: { divisor, width: a.width },
      statement: `the sum of squares is divided by ${short(divisor)}, not by the ${a.width} channels it is taken over`,
      group: `norm-divisor ${divisor}`,
    });
  const padded = new Set([
    2 ** Math.ceil(Math.log2(a.width + 1)),
    a.width * 2,
    a.width / 2,
    Math.ceil((a.width + 1) / 32) * 32,
    Math.ceil((a.width + 1) / 64) * 64,
    1,
    a.width - 1,
  ]);
  const named = [...padded].filter((divisor) => divisor >= 1 && divisor !== a.width);
  const out = named.map((divisor) => by(divisor));
  // Where the norm was recorded, its own gains say the divisor.
  if (investigation.observations.has(site.name)) return out;
  const divisor = Math.round(fitNumber(proposal, a.width, dividing)?.value ?? 0);
  return divisor < 1 || divisor === a.width || padded.has(divisor) ? out : [...out, by(divisor, 1)];
}

/** The weight of another norm of the same width. */
function otherWeights({ site, investigation }: Proposal, a: RmsNormAttributes): Hypothesis[] {
  if (!a.weight) return [];
  const out: Hypothesis[] = [];
  for (const name of investigation.parameters.names()) {
    if (name === a.weight || !name.includes("norm")) continue;
    const shape = investigation.parameters.shape(name)!;
    if (shape.length !== 1 || shape[0] !== a.width) continue;
    const ownRole = lastName(a.weight.replace(/\.weight$/, "")) === lastName(name.replace(/\.weight$/, ""));
    const sameLayer = site.layer !== undefined && name.startsWith(`model.layers.${site.layer}.`);
    if (!sameLayer && !ownRole) continue;
    const cause = sameLayer ? "norm-weights-swapped" : "weight-from-other-layer";
    const distance = Number(/\.layers\.(\d+)\./.exec(name)?.[1] ?? 0) - (site.layer ?? 0);
    out.push(
      hypothesis(cause, site, [replaced(site, { op: rmsNorm({ ...a, weight: name }) })], {
        kind: "parameter",
        transform: "T19",
        // Exchanged, both norms are wrong in the same way.
        parameters: sameLayer ? {} : { used: name },
        statement: `the norm uses ${name} in place of ${a.weight}`,
        group: sameLayer ? cause : `${cause} ${distance}`,
      }),
    );
  }
  return out;
}

/** The same where the norm was recorded: what its module returns is the projection, and what RoPE returns is normed. */
function rotatedBeforeNorm({ site, investigation }: Proposal): Hypothesis[] {
  const { graph, observations } = investigation;
  const norm = graph.find(site.inputs[0] ?? "");
  if (site.op.kind !== "rope" || norm?.op.kind !== "rmsnorm" || !observations.has(norm.name)) return [];
  const early: GraphNode = { ...site, name: `${site.name}.before_norm` };
  const late: GraphNode = { ...site, op: norm.op, inputs: [early.name] };
  return [
    hypothesis("norm-after-rope", site, [early, late, replaced(norm, { op: identity() })], {
      kind: "kernel",
      transform: "T13",
      statement: "QK-norm is applied after RoPE, not before it",
    }),
  ];
}

/** QK-norm applied after RoPE: what the norm module returns has been rotated already, and nothing rotates it again. */
function afterRope({ site, investigation }: Proposal): Hypothesis[] {
  const { graph } = investigation;
  const rotated = graph.consumers(site.name).find((name) => graph.node(name).op.kind === "rope");
  if (!site.heads || !rotated) return [];
  const rope = graph.node(rotated);
  const early: GraphNode = { ...rope, name: `${rope.name}.before_norm`, inputs: site.inputs };
  return [
    hypothesis(
      "norm-after-rope",
      site,
      [early, replaced(site, { inputs: [early.name] }), replaced(rope, { op: identity() })],
      {
        kind: "kernel",
        transform: "T13",
        statement: "QK-norm is applied after RoPE, not before it",
      },
    ),
  ];
}
