import type { ModelConfig } from "../spec/models/config.js";
import { rope } from "../spec/ops/rope.js";
import type { RopeAttributes } from "../spec/ops/rope-attributes.js";
import { type Injection, layerPath } from "./fault.js";
import type { LabModel } from "./model.js";
import { attributesOf, elementwise, spoilt, withOp } from "./rewrite.js";

/** A change that looks like a fault and is none: nothing, or only what it says, may be accused. */
export interface Decoy {
  readonly id: string;
  readonly title: string;
  /** Causes that may be named, as benign or latent. */
  readonly benign: readonly string[];
  applies(config: ModelConfig): boolean;
  /** Whether norm weights must be equal. */
  readonly uniformNorms?: boolean;
  inject(model: LabModel): Injection;
}

const layersOf = (config: ModelConfig) => Array.from({ length: config.layerCount }, (_, layer) => layer);

export const decoys: readonly Decoy[] = [
  {
    id: "N2-positions-shifted-alike",
    title: "all queries and keys of a fresh prefill at positions 5 later: attention is unchanged",
    benign: ["position-offset"],
    applies: () => true,
    inject: ({ graph, config }) => ({
      nodes: layersOf(config).flatMap((layer) =>
        ["q_rope", "k_rope"].map((value) => {
          const name = `${layerPath(layer).attn}.${value}`;
          const attributes = attributesOf<RopeAttributes>(graph, name);
          return withOp(graph, name, rope({ ...attributes, positionOf: (_, position) => position + 5 }));
        }),
      ),
    }),
  },
  {
    id: "N4-constant-in-every-key",
    title: "one vector added to every key that attention reads: softmax does not see it",
    benign: [],
    applies: () => true,
    inject: ({ graph, config }) => ({
      nodes: layersOf(config).flatMap((layer) =>
        spoilt(
          graph,
          `${layerPath(layer).attn}.k_cache`,
          elementwise(1, ([k], _, column) => k! + 0.0625 * Math.sin(column * 2.4)),
        ),
      ),
    }),
  },
  {
    id: "N7-same-bytes-other-name",
    title: "attention reads its values from what the projection returned instead of from the cache",
    benign: [],
    applies: () => true,
    inject: ({ graph, config }) => ({
      nodes: layersOf(config).map((layer) => {
        const { attn } = layerPath(layer);
        const node = graph.node(`${attn}.o_proj.input`);
        return { ...node, inputs: [node.inputs[0]!, `${attn}.k_rope`, `${attn}.v_proj`] };
      }),
    }),
  },
  {
    id: "N12-equal-norm-after-rope",
    title: "QK-norm with equal weights after RoPE instead of before: the two commute",
    benign: [],
    uniformNorms: true,
    applies: (config) => config.queryKeyNorm,
    inject: ({ graph, config }) => ({
      nodes: layersOf(config).flatMap((layer) =>
        ["q", "k"].flatMap((letter) => {
          const { attn } = layerPath(layer);
          const rotated = graph.node(`${attn}.${letter}_rope`);
          const normed = graph.node(`${attn}.${letter}_norm`);
          const before = { ...rotated, name: `${rotated.name} before norm`, inputs: normed.inputs };
          return [before, { ...rotated, op: normed.op, inputs: [before.name] }];
        }),
      ),
      unrecorded: layersOf(config).flatMap((layer) =>
        ["q", "k"].map((letter) => `${layerPath(layer).attn}.${letter}_norm`),
      ),
    }),
  },
];
