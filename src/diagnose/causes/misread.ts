import type { GraphNode } from "../../spec/graph.js";
import { decode, encode, floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import type { Hypothesis } from "./hypothesis.js";
import { misreadings, rowStrides } from "./layout.js";
import { type CauseFamily, hypothesis, lastName, type Proposal } from "./proposal.js";
import { misread, replaced } from "./transform.js";

/**
 * The producer wrote the right numbers and the consumer addresses them wrongly: a transposed, packed or strided operand
 * taken for a contiguous one. The producer's own record stays right.
 */
export const misreadCauses: CauseFamily = ({ site, investigation, finding }) => {
  const unseen =
    (site.op.kind === "attention" || site.op.kind === "linear") && !investigation.observations.has(site.name);
  if (
    (site.name !== finding.node.name && !unseen) ||
    ["embedding", "identity", "select", "append", "add", "argmax"].includes(site.op.kind)
  )
    return [];
  const { graph } = investigation;
  const out: Hypothesis[] = [];
  site.inputs.forEach((name, index) => {
    const operand = graph.node(name);
    if (unseen && site.op.kind === "linear") {
      out.push(...otherBits(site, index, operand, investigation));
      return;
    }
    for (const { title, source } of [...misreadings(operand, investigation), ...rowStrides(operand, investigation)]) {
      out.push(through(site, index, operand, title, misread({ order: title }, source)));
    }
    out.push(
      ...reorderedHeads(site, index, operand),
      ...packedOperand(site, index, name, investigation),
      ...otherBits(site, index, operand, investigation),
    );
  });
  return out;
};

/** A 16-bit operand whose bits the consumer takes for the other 16-bit type. */
function otherBits(
  site: GraphNode,
  index: number,
  operand: GraphNode,
  { precision }: Proposal["investigation"],
): Hypothesis[] {
  const written = precision.store;
  if (written !== "bfloat16" && written !== "float16") return [];
  const read = written === "bfloat16" ? "float16" : "bfloat16";
  const op: GraphNode["op"] = {
    kind: "identity",
    attributes: { written, read },
    evaluate(context, rows, columns) {
      const block = context.input(0, rows, columns);
      const reread = (values: Float64Array) => decode(encode(values, written), read);
      const value = reread(block.value);
      if (block.variance.every((v) => !(v > 0))) return { value, variance: new Float64Array(value.length) };
      // What was not recorded may have been another number nearby, which means another one under the other type.
      const sigma = block.variance.map((v, i) =>
        v > 0 ? Math.sqrt(v) + unitInLastPlace(block.value[i]!, floatFormat(written)!) : 0,
      );
      const [above, below] = [1, -1].map((sign) => reread(block.value.map((x, i) => x + sign * sigma[i]!)));
      return { value, variance: value.map((_, i) => ((above![i]! - below![i]!) / 2) ** 2) };
    },
  };
  const view: GraphNode = { ...operand, name: `${operand.name}.as_read`, op, inputs: [operand.name] };
  const changed = site.inputs.map((input, i) => (i === index ? view.name : input));
  return [
    hypothesis("dtype-bits", site, [view, replaced(site, { inputs: changed })], {
      kind: "seam",
      transform: "T8",
      parameters: { operand: lastName(operand.name), written, read },
      statement: `${lastName(operand.name)} is written as ${written} and its bits are read as ${read}`,
    }),
  ];
}

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
    kind: "seam",
    transform: "T2",
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
  const attention = name.slice(0, name.lastIndexOf("."));
  const parts = ["q_proj", "k_proj", "v_proj"].map((part) => graph.find(`${attention}.${part}`));
  if (parts.some((part) => part === undefined)) return [];
  let operand = graph.node(name);
  while (operand.op.kind === "append" || operand.op.kind === "identity") operand = graph.node(operand.inputs[0]!);
  const own = parts.findIndex((part) => part!.name === operand.name);
  if (own < 0) return [];
  const widths = parts.map((part) => part!.columns);
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
      parts.map((part) => part!.name),
    ),
  ];
}
