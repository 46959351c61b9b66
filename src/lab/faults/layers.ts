import type { Graph, GraphNode } from "../../spec/graph.js";
import { identity } from "../../spec/ops/identity.js";
import { type Fault, type FaultContext, fault, integer, layerPath, streamInto } from "../fault.js";

const chosen = ({ values }: FaultContext) => Number(values.layer);

/** Values of a layer that read `stream`, reading another value. */
function rewired(graph: Graph, layer: number, stream: string, used: string): GraphNode[] {
  return [...graph.nodes.values()]
    .filter((node) => node.layer === layer && node.inputs.includes(stream))
    .map((node) => ({ ...node, inputs: node.inputs.map((input) => (input === stream ? used : input)) }));
}

/** The three values of a layer that read its stream. */
function readers(layer: number): string[] {
  const { path } = layerPath(layer);
  return [`${path}.input_layernorm`, `${path}.post_attention_layernorm`, path];
}

export const layerFaults: readonly Fault[] = [
  fault({
    id: "T14-layer-skipped",
    title: "a layer that is not run",
    kind: "seam",
    transform: "T14",
    scope: "model",
    expected: ["layer-skipped"],
    applies: (config) => config.layerCount > 2,
    parameters: (random, config) => ({ layer: integer(random, 0, config.layerCount - 2) }),
    firstBad: (context) => readers(chosen(context) + 1),
    inject(context) {
      const layer = chosen(context);
      const { path } = layerPath(layer);
      const node = context.graph.node(path);
      const own = [...context.graph.nodes.values()].filter((other) => other.layer === layer);
      return {
        nodes: [{ ...node, op: identity(), inputs: [streamInto(layer)] }],
        unrecorded: own.map(({ name }) => name),
      };
    },
  }),
  fault({
    id: "T13-layer-repeated",
    title: "a layer that is run twice, the second run recorded",
    kind: "seam",
    transform: "T13",
    scope: "model",
    expected: ["layer-repeated"],
    parameters: (random, config) => ({ layer: integer(random, 0, config.layerCount - 1) }),
    firstBad: (context) => readers(chosen(context)),
    inject(context) {
      const layer = chosen(context);
      const { path } = layerPath(layer);
      const before = (name: string) => (name.startsWith(path) ? `${name} before` : name);
      const first = [...context.graph.nodes.values()]
        .filter((node) => node.layer === layer)
        .map((node) => ({ ...node, name: before(node.name), inputs: node.inputs.map(before) }));
      return { nodes: [...first, ...rewired(context.graph, layer, streamInto(layer), before(path))] };
    },
  }),
  fault({
    id: "T13-layers-exchanged",
    title: "two neighbouring layers in the other order",
    kind: "seam",
    transform: "T13",
    scope: "model",
    expected: ["layers-exchanged"],
    applies: (config) => config.layerCount > 2,
    parameters: (random, config) => ({ layer: integer(random, 0, config.layerCount - 3) }),
    firstBad: (context) => [0, 1, 2].flatMap((i) => readers(chosen(context) + i)),
    inject(context) {
      const layer = chosen(context);
      const { graph } = context;
      const [before, one, other] = [streamInto(layer), layerPath(layer).path, layerPath(layer + 1).path];
      return {
        nodes: [
          ...rewired(graph, layer + 1, one, before),
          ...rewired(graph, layer, before, other),
          ...rewired(graph, layer + 2, other, one),
        ],
      };
    },
  }),
];
