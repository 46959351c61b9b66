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

const kinds = {
  "power-of-two": "a power of two",
  "power-of-two-nearest": "a power of two, the nearest,",
  "power-of-two-above": "a power of two, the next one above,",
  e4m3: "an e4m3 scale",
} as const;

function described(quantisation: Quantisation): OperandQuantisation {
  const { format, tile, fixed, scaleType, scaling, aroundZero } = quantisation;
  const what = kinds[scaleType as keyof typeof kinds] ?? "a scale";
  const zero = scaling === "range" ? ` and a zero point${aroundZero ? " around 0" : ""}` : "";
  const shared =
    fixed !== undefined
      ? "a fixed scale"
      : tile.rows === Infinity
        ? `${what}${zero} per step`
        : tile.columns === Infinity
          ? `${what}${zero} per token`
          : `${what}${zero} per ${tile.columns} channels`;
  const id = `${format.id} ${shared.replace(/^an? /, "").replaceAll(",", "")}`.replaceAll(" ", "-");
  return { quantisation, id, title: `${format.title} with ${shared}` };
}
