import type { ParameterReader } from "../../tensor/checkpoint.js";
import type { Quantisation } from "../../tensor/quantisation.js";
import type { Graph, GraphNode } from "../graph.js";
import { type LinearAttributes, linear } from "../ops/linear.js";
import type { OperandQuantisation } from "../ops/linear-recipes.js";

/** A graph whose products know the roundings that their weights' formats make legal. */
export function quantisedProducts(graph: Graph, parameters: ParameterReader): Graph {
  const replacements: GraphNode[] = [];
  for (const node of graph.nodes.values()) {
    if (node.op.kind !== "linear") continue;
    const attributes = node.op.attributes as unknown as LinearAttributes;
    const weight = parameters.quantised?.(attributes.weight);
    if (!weight) continue;
    const operands = weight.operands.map(described);
    replacements.push({ ...node, op: linear({ ...attributes, weightFormat: { operands } }) });
  }
  return replacements.length > 0 ? graph.with(replacements) : graph;
}

function described(quantisation: Quantisation): OperandQuantisation {
  const { format, tile, fixed } = quantisation;
  const shared =
    fixed !== undefined
      ? "with a fixed scale"
      : tile.rows === Infinity
        ? "with a scale per step"
        : tile.columns === Infinity
          ? "with a scale per token"
          : `with a scale per ${tile.columns} channels`;
  const id = `${format.id}-${shared.replace("with a ", "")}`.replaceAll(" ", "-");
  return { quantisation, id, title: `${format.title} ${shared}` };
}
