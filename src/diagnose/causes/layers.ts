import type { Graph, GraphNode } from "../../spec/graph.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { freshName, hypothesesOf, type Proposal, type Search } from "./proposal.js";
import { replaced } from "./transform.js";

/** Layers that run in another order, not at all, or twice. */
export const layerCauses = {
  "layer-skipped": {
    kind: "seam",
    transform: "T14",
    legend: "A layer is not run: the next one reads what it should have read.",
    hiddenBy: "a layer that changes nothing",
    confusedWith: ["branch-dropped", "layers-exchanged"],
    report: ["microsoft/onnxruntime#18311", "a shader did not compile and its op was left out in silence"],
  },
  "layers-exchanged": {
    kind: "seam",
    transform: "T13",
    legend: "Two neighbouring layers run in the other order.",
    hiddenBy: "never",
    confusedWith: ["weight-from-other-layer", "layer-skipped"],
  },
  "layer-repeated": {
    kind: "seam",
    transform: "T13",
    legend: "A layer runs twice and its second run is what was recorded.",
    hiddenBy: "never",
    confusedWith: ["operand-swapped", "residual-doubled"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(layerCauses);

/** A search among all readers of a layer's stream: asked once per unit, where the unit itself or its sum reads the stream. */
function ofStream(
  cause: keyof typeof layerCauses,
  rewrites: (proposal: Proposal, layer: number) => Hypothesis[],
): Search {
  return {
    causes: [cause],
    stage: "large",
    appliesTo({ site, finding, investigation }) {
      const { layer } = finding.node;
      if (layer === undefined || (site.op.kind !== "rmsnorm" && site.op.kind !== "add")) return false;
      return site.inputs.includes(investigation.graph.streamBefore(layer).name) && site.layer === layer;
    },
    rewrites: (proposal) => rewrites(proposal, proposal.finding.node.layer!),
  };
}

export const layerSearches: readonly Search[] = [
  ofStream("layer-skipped", skipped),
  ofStream("layers-exchanged", exchanged),
  ofStream("layer-repeated", repeated),
];

/** The nodes of `layer` that read its stream, reading `used` instead. */
function reading(graph: Graph, layer: number, used: string): GraphNode[] {
  const stream = graph.streamBefore(layer).name;
  return graph.consumers(stream).flatMap((name) => {
    const node = graph.node(name);
    return node.layer === layer || node.layer === undefined
      ? [replaced(node, { inputs: node.inputs.map((input) => (input === stream ? used : input)) })]
      : [];
  });
}

/** The layer before was not run: nothing of it was recorded, and this layer reads what it should have read. */
function skipped({ site, investigation }: Proposal, layer: number): Hypothesis[] {
  const { graph, observations } = investigation;
  const before = layer - 1;
  const own = [...graph.nodes.values()].filter((node) => node.layer === before);
  if (before < 0 || own.some(({ name }) => observations.has(name))) return [];
  return [
    hypothesis("layer-skipped", site, reading(graph, layer, graph.streamBefore(before).name), {
      parameters: { layer: before },
      statement: `layer ${before} is not run: layer ${layer} reads what layer ${before} should have read`,
    }),
  ];
}

/** Two neighbouring layers in the other order; this one may be either of them, or the one behind. */
function exchanged({ site, investigation }: Proposal, layer: number): Hypothesis[] {
  const { graph, observations } = investigation;
  return [layer - 2, layer - 1, layer].flatMap((first) => {
    const last = first + 1;
    if (first < 0 || !graph.streamAfter(last)) return [];
    const streams = [graph.streamBefore(first), graph.streamAfter(first)!, graph.streamAfter(last)!].map(
      ({ name }) => name,
    );
    if (!streams.every((name) => observations.has(name))) return [];
    const replacements = [
      ...reading(graph, last, streams[0]!),
      ...reading(graph, first, streams[2]!),
      ...readersBehind(graph, last, streams[1]!),
    ];
    return [
      hypothesis("layers-exchanged", site, replacements, {
        parameters: { layers: `${first} and ${last}` },
        statement: `layers ${first} and ${last} are run in the other order`,
      }),
    ];
  });
}

/** What reads the stream behind `layer`, whatever that is. */
function readersBehind(graph: Graph, layer: number, used: string): GraphNode[] {
  const stream = graph.streamAfter(layer)!.name;
  return graph.consumers(stream).map((name) => {
    const node = graph.node(name);
    return replaced(node, { inputs: node.inputs.map((input) => (input === stream ? used : input)) });
  });
}

/** The layer runs twice and its second run is what was recorded: it reads its own first output. */
function repeated({ site, investigation }: Proposal, layer: number): Hypothesis[] {
  const { graph, observations } = investigation;
  if (!observations.has(graph.streamBefore(layer).name)) return [];
  const own = [...graph.nodes.values()].filter((node) => node.layer === layer);
  const names = new Map(own.map(({ name }) => [name, freshName(graph, `${name}.first run`)]));
  const first = own.map((node) => ({
    ...node,
    name: names.get(node.name)!,
    inputs: node.inputs.map((input) => names.get(input) ?? input),
  }));
  const output = names.get(graph.streamAfter(layer)!.name)!;
  return [
    hypothesis("layer-repeated", site, [...first, ...reading(graph, layer, output)], {
      parameters: { layer },
      statement: `layer ${layer} is run twice: it reads its own output`,
    }),
  ];
}
