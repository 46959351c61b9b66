import type { GraphNode } from "../../spec/graph.js";
import type { RowTable } from "../../spec/rows.js";
import type { Hypothesis } from "./hypothesis.js";
import { type CauseFamily, hypothesis, lastName, type Proposal } from "./proposal.js";
import { relabelled, replaced } from "./transform.js";

/** What the KV cache was filled with instead: unrotated keys, values for keys, another layer's. */
export const appendCauses: CauseFamily = (proposal) => {
  const { site, finding } = proposal;
  if (site.op.kind !== "append") return [];
  // Where the cache was not recorded, attention's own operands say the same of its content.
  return site.name === finding.node.name ? [...contents(proposal), ...newest(proposal)] : newest(proposal);
};

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
  const choices: [string, string, (row: number) => number | undefined][] = [
    ["cache-unwritten", "is never written: zeros stand there", () => undefined],
    ["cache-stale", "is its predecessor's", before],
    ["cache-stale", "is never written: the last token of the prefill stands there", lastWritten],
  ];
  const other = site.name.endsWith("k_cache") ? site.name.replace(/k_cache$/, "v_cache") : undefined;
  const both = other && site.name !== finding.node.name && graph.find(other);
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
        kind: "state",
        transform: cause === "cache-unwritten" ? "T14" : "T12",
        statement: `in decode steps the newest ${title} ${what}`,
        group: `${cause} ${what}`,
      });
    const title = site.name.endsWith("k_cache") ? "key" : "value";
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
      : sameLayer && part[0] !== lastName(own)[0]
        ? "key-value-swapped"
        : "operand-swapped";
    out.push(
      hypothesis(cause, site, [replaced(site, { inputs: [node.name] })], {
        kind: "seam",
        transform: beforeRope ? "T13" : "T12",
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
