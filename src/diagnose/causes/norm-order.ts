import type { GraphNode } from "../../spec/graph.js";
import { identity } from "../../spec/ops/identity.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** Norms left out, done twice, or on the wrong side of a rotation. */
export const normOrderCauses = {
  "norm-missing": {
    kind: "seam",
    transform: "T13",
    legend: "A norm is not applied: its input is passed on as it is.",
    hiddenBy: "rows of mean square 1 under weights of 1",
    confusedWith: ["operand-unnormed", "query-unnormalised"],
    report: ["vllm-project/vllm-metal#659", "QK-norms were left out for one family of models"],
  },
  "norm-twice": {
    kind: "seam",
    transform: "T13",
    legend: "A norm is applied twice: both sides of the seam believe it is theirs.",
    hiddenBy: "weights of 1",
    confusedWith: ["column-gain", "norm-weight-offset"],
  },
  "norm-after-rope": {
    kind: "kernel",
    transform: "T13",
    legend: "QK-norm is applied after RoPE, not before it.",
    hiddenBy: "position 0, or weights that are equal within the pairs of RoPE",
    confusedWith: ["norm-missing", "rope-interleaved"],
    report: ["meta-pytorch/torchtune#2809", "Qwen3's QK-norm ran after RoPE"],
    isRotary: true,
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(normOrderCauses);
const isNorm = ofKind("rmsnorm");
const isRope = ofKind("rope");

export const normOrderSearches: readonly Search[] = [
  {
    causes: ["norm-missing"],
    stage: "large",
    appliesTo: isNorm,
    rewrites: ({ site }) => [
      hypothesis("norm-missing", site, [replaced(site, { op: identity() })], {
        statement: "the norm is not applied: its input is passed on as it is",
      }),
    ],
  },
  {
    causes: ["norm-twice"],
    stage: "large",
    appliesTo: isNorm,
    rewrites: ({ site }) => [
      twice(site, [
        { ...site, name: `${site.name}.once` },
        { ...site, inputs: [`${site.name}.once`] },
      ]),
    ],
  },
  {
    causes: ["norm-twice"],
    stage: "large",
    appliesTo: (proposal) => !isNorm(proposal) && proposal.site.inputs.some((input) => isRecordedNorm(proposal, input)),
    rewrites: normedAgain,
  },
  {
    causes: ["norm-after-rope"],
    stage: "large",
    appliesTo: (proposal) => isRope(proposal) && isRecordedNorm(proposal, proposal.site.inputs[0]!),
    rewrites: rotatedBeforeNorm,
  },
  { causes: ["norm-after-rope"], stage: "large", appliesTo: isNorm, rewrites: afterRope },
];

/** A consumer that norms its operand although that was recorded as normed already. */
function normedAgain(proposal: Proposal): Hypothesis[] {
  const { site, investigation } = proposal;
  return site.inputs.flatMap((input, i) => {
    if (!isRecordedNorm(proposal, input)) return [];
    const again = { ...investigation.graph.node(input), name: `${site.name}.operand ${i} again`, inputs: [input] };
    return [twice(site, [again, { ...site, inputs: site.inputs.with(i, again.name) }])];
  });
}

function isRecordedNorm({ investigation }: Proposal, name: string): boolean {
  return investigation.graph.find(name)?.op.kind === "rmsnorm" && investigation.observations.has(name);
}

function twice(site: GraphNode, replacements: GraphNode[]): Hypothesis {
  return hypothesis("norm-twice", site, replacements, {
    statement: "the norm is applied twice: both sides of the seam believe it is theirs",
  });
}

/** The same where the norm was recorded: what its module returns is the projection, and what RoPE returns is normed. */
function rotatedBeforeNorm({ site, investigation }: Proposal): Hypothesis[] {
  const norm = investigation.graph.node(site.inputs[0]!);
  const early: GraphNode = { ...site, name: `${site.name}.before_norm` };
  const late: GraphNode = { ...site, op: norm.op, inputs: [early.name] };
  return [
    hypothesis("norm-after-rope", site, [early, late, replaced(norm, { op: identity() })], {
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
        statement: "QK-norm is applied after RoPE, not before it",
      },
    ),
  ];
}
