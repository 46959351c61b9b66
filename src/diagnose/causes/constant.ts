import type { GraphNode } from "../../spec/graph.js";
import { rope } from "../../spec/ops/rope.js";
import type { RopeAttributes } from "../../spec/ops/rope-attributes.js";
import type { Comparison } from "../bits/statistics.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { short } from "./hypothesis.js";
import { hypothesesOf, isRecorded, type Proposal, type Search } from "./proposal.js";
import { affine, replaced } from "./transform.js";

/** What is added that no checkpoint has. */
export const constantCauses = {
  "additive-constant": {
    kind: "parameter",
    transform: "T11",
    legend:
      "A constant per channel is added that no tensor of the checkpoint explains: uninitialised or left-over memory.",
    hiddenBy: "fewer than three rows",
    confusedWith: ["bias-scaled", "bias-dropped", "low-rank-delta"],
    report: ["vllm-project/vllm#21336", "weights that a sleeping server had thrown away were served uninitialised"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(constantCauses);

/** A constant per output channel, fitted on the finding's even rows. */
export const constantSearches: readonly Search[] = [
  {
    causes: ["additive-constant"],
    stage: "fitted",
    appliesTo: (proposal) => isRecorded(proposal) || isRotated(proposal),
    rewrites: additiveConstant,
  },
];

/** Whether a product was not recorded and its rotation was, in all of its channels. */
function isRotated({ site, finding }: Proposal): boolean {
  const { node, comparison } = finding;
  if (site.op.kind !== "linear" || node.op.kind !== "rope" || node.inputs[0] !== site.name) return false;
  return comparison.columns.length === node.columns;
}

function additiveConstant(proposal: Proposal): Hypothesis[] {
  const { site, finding, investigation } = proposal;
  const unrotated = isRecorded(proposal) ? finding.comparison : beforeRotation(proposal);
  const { rows, columns, expected, observed, noise } = unrotated;
  const fitRows = [...rows.keys()].filter((r) => r % 2 === 0);
  if (fitRows.length < 2 || rows.length - fitRows.length < 1) return [];
  const offset = new Map<number, number>();
  const variance = new Map<number, number>();
  columns.forEach((column, c) => {
    const differences = fitRows
      .map((r) => observed[r * columns.length + c]! - expected[r * columns.length + c]!)
      .filter(Number.isFinite)
      .sort((x, y) => x - y);
    const middle = differences.length >> 1;
    const median =
      differences.length % 2 ? differences[middle]! : (differences[middle - 1]! + differences[middle]!) / 2;
    const kept = fitRows.map((r) => noise[r * columns.length + c]!).filter(Number.isFinite);
    const spread = Math.max(...kept, Math.abs(median) * investigationUlp(investigation));
    offset.set(column, Number.isFinite(median) ? median : 0);
    variance.set(column, (1.57 * spread * spread) / fitRows.length);
  });
  const values = Array.from(columns, (column) => offset.get(column)!);
  const strong = columns.length > 0 && values.some((b, c) => Math.abs(b) > 6 * Math.sqrt(variance.get(columns[c]!)!));
  if (!strong) return [];
  const named = investigation.parameters.shape(`${site.name}.bias`);
  const largest = values.reduce((best, b) => (Math.abs(b) > Math.abs(best) ? b : best), 0);
  const op = affine(
    site.op,
    { constant: "fitted" },
    () => 1,
    (_, column) => offset.get(column) ?? 0,
    (_, column) => variance.get(column) ?? Infinity,
  );
  return [
    hypothesis("additive-constant", site, [replaced(site, { op })], {
      fitted: columns.length,
      heldOut: (r) => r % 2 === 1,
      parameters: { largest, values: sparse(columns, values, variance) },
      statement: named
        ? `a constant per channel is added that ${site.name}.bias does not explain (largest ${short(largest)})`
        : `a constant per channel is added, a bias for which the checkpoint has no tensor: uninitialised or left-over memory (largest ${short(largest)})`,
      group: "additive-constant",
    }),
  ];
}

/**
 * What a recorded rotation says of the product it rotates, which was not recorded: RoPE turned back, both of what was
 * recorded and of what was expected.
 */
function beforeRotation({ finding, investigation }: Proposal): Comparison {
  const { node, comparison } = finding;
  const { rows } = comparison;
  const a = node.op.attributes as unknown as RopeAttributes;
  // Turned back by the angle that was turned, a length is divided by the square of what cos and sin were multiplied by.
  const back = rope({ ...a, attentionFactor: 1 / a.attentionFactor, sine: (_, sin) => -sin });
  const turned = (value: Float64Array) => {
    const recorded: GraphNode = {
      ...node,
      name: `${node.name}.as recorded`,
      op: { kind: "identity", attributes: {}, evaluate: () => ({ value, variance: new Float64Array(0) }) },
      inputs: [],
    };
    const reversed: GraphNode = { ...node, name: `${node.name}.turned back`, op: back, inputs: [recorded.name] };
    const plain = investigation.quiet;
    return plain.rewritten([recorded, reversed]).evaluate(reversed.name, rows).value;
  };
  const largest = comparison.noise.map((sigma, i) => {
    const start = i - (i % a.headDim);
    return Math.max(sigma, ...comparison.noise.subarray(start, start + a.headDim));
  });
  return {
    ...comparison,
    expected: turned(comparison.expected),
    observed: turned(comparison.observed),
    noise: largest,
  };
}

function investigationUlp({ precision }: Proposal["investigation"]): number {
  return precision.store === "bfloat16" ? 2 ** -8 : precision.store === "float16" ? 2 ** -11 : 2 ** -24;
}

/** The channels that stand out, at most 64, by channel number. */
function sparse(
  columns: Int32Array,
  values: readonly number[],
  variance: ReadonlyMap<number, number>,
): Record<string, number> {
  const standing = [...columns.keys()]
    .filter((c) => Math.abs(values[c]!) > 6 * Math.sqrt(variance.get(columns[c]!)!))
    .sort((a, b) => Math.abs(values[b]!) - Math.abs(values[a]!))
    .slice(0, 64);
  return Object.fromEntries(standing.map((c) => [String(columns[c]), Number(values[c]!.toPrecision(4))]));
}
