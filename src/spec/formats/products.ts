import type { ParameterReader } from "../../tensor/checkpoint.js";
import type { Graph, GraphNode } from "../graph.js";
import { type LinearAttributes, linear } from "../ops/linear.js";
import { mergedOperands, mergedProjections, mergedScale } from "./merged-projections.js";
import { described } from "./operand-names.js";

/** A graph whose products know the roundings that their weights' formats make legal. */
export function quantisedProducts(graph: Graph, parameters: ParameterReader): Graph {
  const replacements: GraphNode[] = [];
  for (const node of graph.nodes.values()) {
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
