import type { GraphNode } from "../../spec/graph.js";
import type { RowTable } from "../../spec/rows.js";
import { attentionOperandCauses } from "./attention-operands.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { operandCauses } from "./operand.js";
import { hypothesesOf, isRecorded, lastName, ofKind, type Proposal, type Search } from "./proposal.js";
import { relabelled, replaced } from "./transform.js";

/** What the KV cache is filled with. */
export const cacheCauses = {
  "cache-unwritten": {
    kind: "state",
    transform: "T14",
    legend: "A part of the cache is never written: zeros stand there.",
    hiddenBy: "a single prefill whose attention does not read the cache",
    confusedWith: ["key-length-short", "rows-unwritten", "cache-stale"],
    report: ["microsoft/onnxruntime-genai#2354", "a length that counted the current token left one slot unwritten"],
  },
  "cache-stale": {
    kind: "state",
    transform: "T12",
    legend: "Where the newest key or value belongs, an older one stands.",
    hiddenBy: "a single prefill",
    confusedWith: ["cache-unwritten", "cache-overwritten", "slot-mapping"],
    report: ["vllm-project/vllm#25279", "host metadata was overwritten while its copy was under way"],
  },
  "cached-before-rope": {
    kind: "seam",
    transform: "T13",
    legend: "Keys are cached before RoPE.",
    hiddenBy: "position 0",
    confusedWith: ["key-unrotated", "rope-missing"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf({ ...cacheCauses, ...attentionOperandCauses, ...operandCauses });
const isAppend = ofKind("append");

export const appendSearches: readonly Search[] = [
  {
    causes: ["cached-before-rope", "key-value-swapped", "operand-swapped"],
    stage: "named",
    // Where the cache was not recorded, attention's own operands say the same of its content.
    appliesTo: (proposal) => isAppend(proposal) && isRecorded(proposal),
    rewrites: contents,
  },
  { causes: ["cache-unwritten", "cache-stale"], stage: "named", appliesTo: isAppend, rewrites: newest },
];

/** Rows of decode steps: the only new one of their sequence. */
export function isDecoded(table: RowTable, row: number): boolean {
  const step = table.steps[table.stepOf[row]!];
  const b = table.sequenceOf[row]!;
  return step !== undefined && table.position[row]! > 0 && step.qoIndptr[b + 1]! - step.qoIndptr[b]! === 1;
}

/** What decode steps should have written and did not: zeros or the predecessor's stand there. */
function newest({ site, investigation, finding }: Proposal): Hypothesis[] {
  const { graph, observations } = investigation;
  const table = observations.rows;
  if (!table.stepOf.some((step, row) => step >= 0 && isDecoded(table, row))) return [];
  const before = (row: number) => table.keyRow(row, table.position[row]! - 1);
  const lastWritten = (row: number): number => (isDecoded(table, row) ? lastWritten(before(row)) : row);
  const choices: [keyof typeof cacheCauses, string, (row: number) => number | undefined][] = [
    ["cache-unwritten", "is never written: zeros stand there", () => undefined],
    ["cache-stale", "is its predecessor's", before],
    ["cache-stale", "is never written: the last token of the prefill stands there", lastWritten],
  ];
  const isKey = site.site.what === "key-cache";
  const other = isKey ? graph.at({ ...site.site, what: "value-cache" }) : undefined;
  const both = site.name === finding.node.name ? undefined : other;
  return choices.flatMap(([cause, what, from]) => {
    const rewritten = (node: GraphNode) =>
      replaced(node, {
        op: relabelled(node.op, { newest: what }, (row, column) => {
          const source = isDecoded(table, row) ? from(row) : row;
          return source === undefined ? undefined : [source, column];
        }),
      });
    const of = (nodes: readonly GraphNode[], title: string) =>
      hypothesis(cause, site, nodes.map(rewritten), {
        statement: `in decode steps the newest ${title} ${what}`,
        group: `${cause} ${what}`,
      });
    const title = isKey ? "key" : "value";
    return [of([site], title), ...(both ? [of([site, both], "key and value")] : [])];
  });
}

/** What the cache was filled with instead. */
function contents({ site, investigation }: Proposal): Hypothesis[] {
  const { graph, observations } = investigation;
  const own = site.inputs[0]!;
  const out: Hypothesis[] = [];
  for (const node of graph.nodes.values()) {
    if (node.columns !== site.columns || node.heads !== site.heads || node.name === own || !observations.has(node.name))
      continue;
    if (node.op.kind === "append" || Math.abs((node.layer ?? 0) - (site.layer ?? 0)) > 1) continue;
    const sameLayer = node.layer === site.layer;
    const beforeRope = graph.node(own).op.kind === "rope" && graph.node(own).inputs[0] === node.name;
    const part = lastName(node.name);
    const cause = beforeRope
      ? "cached-before-rope"
      : sameLayer && !isAlike(node, graph.node(own))
        ? "key-value-swapped"
        : "operand-swapped";
    out.push(
      hypothesis(cause, site, [replaced(site, { inputs: [node.name] })], {
        parameters: { cached: part, ...(sameLayer ? {} : { layer: node.layer ?? 0 }) },
        statement: beforeRope
          ? "keys are cached before RoPE"
          : `the cache is filled with ${node.name} where ${own} belongs`,
        group: `${cause} ${part} ${(node.layer ?? 0) - (site.layer ?? 0)}`,
      }),
    );
  }
  return out;
}

const ofKeys: readonly string[] = ["key", "key-norm", "key-rotated"];

/** Whether two values are both of keys or both not. */
function isAlike(a: GraphNode, b: GraphNode): boolean {
  return ofKeys.includes(a.site.what) === ofKeys.includes(b.site.what);
}
