import type { PatchableModel, Rewrite } from "../../engine/program/patch.js";
import { hasKernel } from "../../engine/program/standard-program.js";
import type { Graph, GraphNode } from "../../spec/graph.js";
import { identity } from "../../spec/ops/identity.js";
import type { Block, What } from "../../spec/site.js";
import { InputError } from "../../tensor/errors.js";
import { attentionScaled, oneTerm, scaled, streamSum } from "./patches.js";

/** Something of a layer that can be set while the engine runs. */
export interface Knob {
  /** What stands behind `layers.N.`; empty for the layer itself. */
  readonly name: string;
  /** What values it takes. */
  readonly takes: "factor" | "off" | "off or reference";
  readonly meaning: string;
  /** @throws InputError when a layer has no such thing. */
  rewrite(model: PatchableModel, layers: readonly number[], value: number | "off" | "reference"): Rewrite;
}

/** The value of a layer that attention reads as its queries, keys or values: what goes into the cache. */
function operand(graph: Graph, layer: number, which: "query" | "key-cache" | "value-cache"): string {
  const what: What = which === "query" ? "mixed" : which;
  const reader = graph.at({ what, layer });
  if (!reader) throw new InputError(`layer ${layer}: expected an attention, found none`);
  return reader.inputs[0]!;
}

function factorOf(which: "query" | "key-cache" | "value-cache"): Knob["rewrite"] {
  return (model, layers, value) =>
    scaled(
      model,
      layers.map((layer) => operand(model.graph, layer, which)),
      Number(value),
    );
}

/** A branch that is not added to the stream, or whose ops are the spec's own. */
function branch(block: Block): Knob["rewrite"] {
  return (model, layers, value) => {
    if (value === "reference") {
      const nodes = [...model.graph.nodes.values()].filter(
        ({ site, layer }) => site.block === block && layer !== undefined && layers.includes(layer),
      );
      return { onHost: computing(nodes, model.graph) };
    }
    return oneTerm(
      model,
      layers.map((layer) => streamSum(model, layer, block)),
      "stream",
    );
  };
}

/** Those of some values that are computed by an op, and so can be by its reference. */
export function computing(nodes: readonly GraphNode[], graph: Graph): string[] {
  const moves = new Set(["append", "argmax", "identity", "select"]);
  return nodes.filter((node) => !moves.has(node.op.kind) && hasKernel(node, graph)).map(({ name }) => name);
}

export const knobs: readonly Knob[] = [
  { name: "q_scale", takes: "factor", meaning: "queries as attention reads them", rewrite: factorOf("query") },
  { name: "k_scale", takes: "factor", meaning: "keys as they go into the cache", rewrite: factorOf("key-cache") },
  { name: "v_scale", takes: "factor", meaning: "values as they go into the cache", rewrite: factorOf("value-cache") },
  {
    name: "attention_scale",
    takes: "factor",
    meaning: "sm_scale, relative to the model's own",
    rewrite: (model, layers, value) =>
      attentionScaled(
        model,
        layers.map((layer) => model.graph.at({ what: "mixed", layer })!.name),
        Number(value),
      ),
  },
  {
    name: "attention",
    takes: "off or reference",
    meaning: "the attention branch: not added to the stream, or computed by the spec on the host",
    rewrite: branch("attention"),
  },
  {
    name: "mlp",
    takes: "off or reference",
    meaning: "the MLP branch: the same",
    rewrite: branch("mlp"),
  },
  {
    name: "",
    takes: "off",
    meaning: "the layer itself: the stream passes it by",
    rewrite: ({ graph }, layers) => ({
      nodes: layers.map((layer) => ({
        ...graph.streamAfter(layer)!,
        op: identity(),
        inputs: [graph.streamBefore(layer).name],
      })),
    }),
  },
];
