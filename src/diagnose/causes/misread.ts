import type { GraphNode } from "../../spec/graph.js";
import type { Hypothesis } from "./hypothesis.js";
import { layoutCauses, misreadings, packedParts, rowStrides } from "./layout.js";
import { hypothesesOf, isRecorded, lastName, type Proposal, type Search } from "./proposal.js";
import { misread, replaced } from "./transform.js";

const hypothesis = hypothesesOf(layoutCauses);
/** Ops that only pass on, choose or add what they read. */
const passing = ["embedding", "identity", "select", "append", "add", "argmax"];

/**
 * Whether a site may address or take an operand wrongly although its producer wrote the right numbers, and the record
 * would show it.
 */
export function readsWrongly(proposal: Proposal): boolean {
  const { site, investigation } = proposal;
  if (passing.includes(site.op.kind)) return false;
  const unseen = ["attention", "linear"].includes(site.op.kind) && !investigation.observations.has(site.name);
  return unseen || isRecorded(proposal);
}

/** A transposed, packed or strided operand taken for a contiguous one: the producer's own record stays right. */
export const misreadSearches: readonly Search[] = [
  {
    causes: ["strides-ignored"],
    stage: "named",
    // Of a product that nobody recorded, too many would do.
    appliesTo: (proposal) =>
      readsWrongly(proposal) &&
      (proposal.site.op.kind !== "linear" || proposal.investigation.observations.has(proposal.site.name)),
    rewrites({ site, investigation }) {
      return site.inputs.flatMap((name, index) => {
        const operand = investigation.graph.node(name);
        return [
          ...[...misreadings(operand, investigation), ...rowStrides(operand, investigation)].map(({ title, source }) =>
            through(site, index, operand, title, misread({ order: title }, source)),
          ),
          ...reorderedHeads(site, index, operand),
          ...packedOperand(site, index, name, investigation),
        ];
      });
    },
  },
];

function through(
  site: GraphNode,
  index: number,
  operand: GraphNode,
  title: string,
  op: GraphNode["op"],
  inputs = [operand.name],
): Hypothesis {
  const view: GraphNode = { ...operand, name: `${operand.name}.as_read`, op, inputs };
  const changed = site.inputs.map((input, i) => (i === index ? view.name : input));
  return hypothesis("strides-ignored", site, [view, replaced(site, { inputs: changed })], {
    parameters: { operand: lastName(operand.name), order: title },
    statement: `${lastName(operand.name)} is written right and read wrong by its consumer: ${title}`,
  });
}

function reorderedHeads(site: GraphNode, index: number, operand: GraphNode): Hypothesis[] {
  const heads = operand.heads ?? 1;
  if (heads < 2) return [];
  const width = operand.columns / heads;
  const reversed = misread({ order: "reversed" }, (row, column) => [
    row,
    (heads - 1 - Math.floor(column / width)) * width + (column % width),
  ]);
  return [through(site, index, operand, "heads in reverse", reversed)];
}

/** A slice of packed [q | k | v] rows, read with its own width for a row stride. */
function packedOperand(
  site: GraphNode,
  index: number,
  name: string,
  { graph, observations }: Proposal["investigation"],
): Hypothesis[] {
  let operand = graph.node(name);
  while (operand.op.kind === "append" || operand.op.kind === "identity") operand = graph.node(operand.inputs[0]!);
  const parts = packedParts(graph, operand);
  const own = parts.findIndex((part) => part.name === operand.name);
  if (own < 0) return [];
  const widths = parts.map((part) => part.columns);
  const rowWidth = widths.reduce((sum, width) => sum + width, 0);
  const offset = widths.slice(0, own).reduce((sum, width) => sum + width, 0);
  const table = observations.rows;
  const op: GraphNode["op"] = {
    kind: "identity",
    attributes: { rowWidth },
    evaluate(context, rows, columns) {
      const value = new Float64Array(rows.length * columns.length);
      const variance = new Float64Array(value.length);
      let i = 0;
      for (const row of rows) {
        const { firstRow } = table.steps[table.stepOf[row]!]!;
        for (const column of columns) {
          const flat = offset + (row - firstRow) * operand.columns + column;
          let at = flat % rowWidth;
          let part = 0;
          while (at >= widths[part]!) at -= widths[part++]!;
          const block = context.input(part, Int32Array.of(firstRow + Math.floor(flat / rowWidth)), Int32Array.of(at));
          value[i] = block.value[0]!;
          variance[i++] = block.variance[0] ?? 0;
        }
      }
      return { value, variance };
    },
  };
  return [
    through(
      site,
      index,
      graph.node(name),
      `a slice of packed q|k|v rows taken for a contiguous buffer (row stride ${rowWidth} ignored)`,
      op,
      parts.map((part) => part.name),
    ),
  ];
}
