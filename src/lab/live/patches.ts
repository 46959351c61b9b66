import type { PatchableModel, Rewrite } from "../../engine/program/patch.js";
import type { GraphNode } from "../../spec/graph.js";
import { type AttentionAttributes, attention } from "../../spec/ops/attention.js";
import { identity } from "../../spec/ops/identity.js";
import { type LinearAttributes, linear } from "../../spec/ops/linear.js";
import { scale } from "../../spec/ops/scale.js";
import type { Block } from "../../spec/site.js";
import type { ChangedParameter } from "../../tensor/changed-parameters.js";
import { InputError } from "../../tensor/errors.js";
import { spoilt } from "../rewrite.js";

/** Rewrites that live patches are made of: each of a running model, in the spec's words. */

/** Values times a factor, wherever they are read. */
export function scaled({ graph }: PatchableModel, names: readonly string[], factor: number): Rewrite {
  return { nodes: names.flatMap((name) => spoilt(graph, name, scale(factor))) };
}

/** sm_scale of attentions times a factor. */
export function attentionScaled({ graph }: PatchableModel, names: readonly string[], factor: number): Rewrite {
  const nodes = names.map((name) => {
    const node = graph.node(name);
    const attributes = node.op.attributes as unknown as AttentionAttributes;
    return { ...node, op: attention({ ...attributes, scale: attributes.scale * factor }) };
  });
  return { nodes };
}

/** Sums of the residual stream that keep one of their two terms alone. */
export function oneTerm({ graph }: PatchableModel, names: readonly string[], term: "stream" | "branch"): Rewrite {
  const nodes = names.map((name) => {
    const node = graph.node(name);
    return { ...node, op: identity(), inputs: [node.inputs[term === "stream" ? 0 : 1]!] };
  });
  return { nodes };
}

/** Products that add a bias, in place of their own where they have one. */
export function biased(
  { graph }: PatchableModel,
  names: readonly string[],
  bias: (name: string, columns: number) => Float64Array,
): Rewrite {
  const parameters = new Map<string, ChangedParameter>();
  const nodes = names.map((name): GraphNode => {
    const node = graph.node(name);
    const attributes = node.op.attributes as unknown as LinearAttributes;
    const parameter = attributes.bias ?? `${name}.bias`;
    parameters.set(parameter, { shape: [node.columns], values: bias(name, node.columns) });
    return { ...node, op: linear({ ...attributes, bias: parameter }) };
  });
  return { nodes, parameters };
}

/** The sum that ends a branch of a layer. @throws InputError where the layer has none. */
export function streamSum({ graph }: PatchableModel, layer: number, block: Block): string {
  const node = graph.at({ what: "stream", block, layer });
  if (node?.op.kind !== "add") throw new InputError(`layer ${layer}: expected a sum after its ${block}, found none`);
  return node.name;
}
