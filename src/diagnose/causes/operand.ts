import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { hypothesesOf, lastName, ofKind, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** What a projection multiplies. */
export const operandCauses = {
  "operand-swapped": {
    kind: "seam",
    transform: "T12",
    legend: "An op reads another value where its operand belongs: a neighbour's, an earlier one, another port's.",
    hiddenBy: "equal values",
    confusedWith: ["operand-unnormed", "value-replaced", "key-value-swapped"],
    report: ["ggml-org/llama.cpp#24305", "a fusion took the wrong one of two sources"],
  },
  "final-norm-skipped": {
    kind: "seam",
    transform: "T12",
    legend: "The head reads the residual stream, not what the final norm makes of it.",
    hiddenBy: "never",
    confusedWith: ["norm-missing", "operand-swapped"],
  },
  "operand-unnormed": {
    kind: "seam",
    transform: "T13",
    legend: "A projection reads the residual stream itself, not what its norm makes of it.",
    hiddenBy: "rows of mean square 1 under weights of 1",
    confusedWith: ["norm-missing", "operand-swapped"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(operandCauses);
const isProduct = ofKind("linear");

export const operandSearches: readonly Search[] = [
  { causes: ["operand-swapped", "final-norm-skipped"], stage: "named", appliesTo: isProduct, rewrites: operands },
  { causes: ["operand-unnormed"], stage: "named", appliesTo: isProduct, rewrites: beforeNorm },
  { causes: ["operand-unnormed"], stage: "large", appliesTo: ofKind("expert-linear"), rewrites: beforeNorm },
];

/** Another recorded value of the right width as the operand: a norm skipped, an activation forgotten, a neighbour read. */
function operands({ site, investigation }: Proposal): Hypothesis[] {
  const { graph, observations } = investigation;
  const own = site.inputs[0]!;
  const width = graph.node(own).columns;
  const out: Hypothesis[] = [];
  const seen = new Set<string>([own]);
  const unnormed = graph.node(own).op.kind === "rmsnorm" ? graph.node(own).inputs[0] : undefined;
  const candidates = [...graph.nodes.values()].filter(
    (node) =>
      node.columns === width &&
      (node.layer === undefined || site.layer === undefined || Math.abs(node.layer - site.layer) <= 1),
  );
  const position = [...graph.nodes.keys()].indexOf(site.name);
  const order = new Map([...graph.nodes.keys()].map((name, i) => [name, i]));
  for (const node of candidates) {
    if (seen.has(node.name) || !observations.has(node.name) || order.get(node.name)! >= position) continue;
    if (node.op.kind === "identity" || node.name === unnormed) continue;
    seen.add(node.name);
    const skipped = graph.find(own)?.op.kind === "select" && node.name === graph.at({ what: "last-norm" })?.inputs[0];
    out.push(
      hypothesis(skipped ? "final-norm-skipped" : "operand-swapped", site, [replaced(site, { inputs: [node.name] })], {
        parameters: { used: node.name },
        statement: skipped
          ? "the final norm is skipped: lm_head reads the residual stream"
          : `${lastName(site.name)} reads ${node.name} where ${own} belongs`,
        group: skipped
          ? "final-norm-skipped"
          : `operand-swapped ${lastName(node.name)} ${(node.layer ?? 0) - (site.layer ?? 0)}`,
      }),
    );
  }
  return out;
}

/** The operand's norm was applied and recorded, and what the product reads is the value before it. */
function beforeNorm({ site, investigation }: Proposal): Hypothesis[] {
  const { graph, observations } = investigation;
  const norm = graph.node(site.inputs[0]!);
  // Where the norm was not recorded, its own family says that it is missing.
  if (norm.op.kind !== "rmsnorm" || !observations.has(norm.name)) return [];
  // Experts take their operand once, for gate and up.
  const readers =
    site.op.kind === "linear"
      ? [site]
      : [...graph.nodes.values()].filter(({ op, inputs }) => op.kind === site.op.kind && inputs[0] === norm.name);
  if (readers[0] !== site) return [];
  const reader = site.op.kind === "linear" ? lastName(site.name) : "each expert";
  return [
    hypothesis(
      "operand-unnormed",
      site,
      readers.map((node) => replaced(node, { inputs: [norm.inputs[0]!, ...node.inputs.slice(1)] })),
      {
        parameters: { norm: lastName(norm.name) },
        statement: `${reader} reads the residual stream itself, not what ${lastName(norm.name)} makes of it`,
      },
    ),
  ];
}
