import type { ParameterReader } from "../../tensor/checkpoint.js";
import type { Graph, GraphNode } from "../graph.js";
import { type ExpertLinearAttributes, expertLinear } from "../ops/expert-linear.js";
import { type LinearAttributes, linear } from "../ops/linear.js";
import { mergedOperands, mergedProjections, mergedScale } from "./merged-projections.js";
import { described } from "./operand-names.js";

/** A graph whose products know the roundings that their weights' formats make legal. */
export function quantisedProducts(graph: Graph, parameters: ParameterReader): Graph {
  const replacements: GraphNode[] = [];
  for (const node of graph.nodes.values()) {
    if (node.op.kind === "expert-linear") replacements.push(...quantisedExperts(node, parameters));
    if (node.op.kind !== "linear") continue;
    const attributes = node.op.attributes as unknown as LinearAttributes;
    const weight = parameters.quantised?.(attributes.weight);
    if (!weight) continue;
    const merged = mergedProjections(graph, node, parameters);
    const operands = [...weight.operands.map((own) => described(own)), ...mergedOperands(weight, merged)];
    const weightFormat = { operands, mergedScale: mergedScale(weight, merged) };
    replacements.push({ ...node, op: linear({ ...attributes, weightFormat }) });
  }
  return replacements.length > 0 ? graph.with(replacements) : graph;
}

/** A product of chosen experts that have quantised weights each: it knows their roundings, and operands quantised row by row. */
function quantisedExperts(node: GraphNode, parameters: ParameterReader): GraphNode[] {
  const attributes = node.op.attributes as unknown as ExpertLinearAttributes;
  const { weight } = attributes;
  const first = typeof weight === "string" ? undefined : parameters.quantised?.(weight[0]!);
  if (!first) return [];
  // Fixed scales are each expert's own, and a scale per step is one of the tokens that an expert was given.
  const operands = first.operands.filter(
    ({ tile, fixed, global }) => tile.rows === 1 && (fixed ?? global) === undefined,
  );
  const weightFormat = { operands: operands.map((operand) => described(operand)) };
  return [{ ...node, op: expertLinear({ ...attributes, weightFormat }) }];
}
