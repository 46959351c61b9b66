import type { Graph, GraphNode } from "../../spec/graph.js";
import { attributesOf, refuse } from "../program/typed-node.js";

/** Kernels load eight channels at a time. @throws InputError naming a value whose width does not allow it. */
export function requireWidths(graph: Graph): void {
  for (const node of graph.nodes.values()) {
    if (node.op.kind === "embedding") requireEights(node, "columns", node.columns);
    else if (node.op.kind === "linear") requireEights(node, "inputs", graph.node(node.inputs[0]!).columns);
    else if (node.op.kind === "attention") requireHeads(node);
  }
}

function requireEights(node: GraphNode, what: string, count: number): void {
  if (count % 8 !== 0) refuse(node, `${count} ${what}, which are no multiple of 8`);
}

function requireHeads(node: GraphNode): void {
  const { heads, keyValueHeads, headDim } = attributesOf(node, "attention");
  requireEights(node, "channels of a head", headDim);
  if (headDim > 256) refuse(node, `${headDim} channels of a head, more than 256`);
  const group = heads / keyValueHeads;
  if (group > 16) refuse(node, `${group} query heads per KV head, more than 16`);
}

/** The largest attention of the spec: its heads, and heads · head_dim. */
export function widestAttention(graph: Graph): { heads: number; columns: number } {
  const nodes = [...graph.nodes.values()].filter(({ op }) => op.kind === "attention");
  return {
    heads: Math.max(1, ...nodes.map(({ heads }) => heads ?? 1)),
    columns: Math.max(1, ...nodes.map(({ columns }) => columns)),
  };
}
