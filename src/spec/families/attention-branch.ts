import type { ModelConfig } from "../models/config.js";
import type { Op } from "../op.js";
import { append } from "../ops/append.js";
import { attention } from "../ops/attention.js";
import { identity } from "../ops/identity.js";
import { rope } from "../ops/rope.js";
import type { What } from "../site.js";
import type { LayerScope } from "./declaration.js";
import { norm, projection, sideBySide } from "./pieces.js";

const module = "self_attn";

/** Projections, QK-norm where the family has one, RoPE unless the layer goes without, KV cache, attention, output: its name. */
export function attentionBranch(scope: LayerScope, config: ModelConfig, input: string): string {
  const { declaration, layer } = scope;
  const { headCount, keyValueHeadCount, headDim, hiddenSize } = config;
  const queries = { columns: headCount * headDim, heads: headCount };
  const keys = { columns: keyValueHeadCount * headDim, heads: keyValueHeadCount };
  const place = (name: string, what: What) => scope.place(`${module}.${name}`, what, "attention");
  const packed = sideBySide(`${scope.path}.${module}.qkv_proj`, [queries.columns, keys.columns, keys.columns]);
  const project = (index: number, name: string, what: What, size: typeof queries) =>
    projection(declaration, place(name, what), size, {
      input,
      inputs: hiddenSize,
      bias: config.queryKeyValueBias,
      part: config.packedProjections ? packed[index] : undefined,
    });
  const query = project(0, "q_proj", "query", queries);
  const key = project(1, "k_proj", "key", keys);
  const value = project(2, "v_proj", "value", keys);
  const normed = (name: string, what: What, from: string, size: typeof queries) =>
    config.queryKeyNorm || config.projectionNorm
      ? norm(declaration, config, place(name, what), from, size, config.queryKeyNorm ? headDim : size.columns)
      : from;
  const normedQuery = normed("q_norm", "query-norm", query, queries);
  const normedKey = normed("k_norm", "key-norm", key, keys);
  const turn = rotation(config, layer);
  const rotatedQuery = declaration.value(place("q_rope", "query-rotated"), turn, [normedQuery], queries);
  const rotatedKey = declaration.value(place("k_rope", "key-rotated"), turn, [normedKey], keys);
  const keyCache = declaration.value(place("k_cache", "key-cache"), append(), [rotatedKey], keys);
  const valueCache = declaration.value(place("v_cache", "value-cache"), append(), [value], keys);
  const sink = config.attentionSinks ? scope.parameter(`${scope.path}.${module}.sinks`, [headCount]) : undefined;
  const attend = attention({
    heads: headCount,
    keyValueHeads: keyValueHeadCount,
    headDim,
    scale: config.attentionScale,
    windowLeft: config.windowLeft(layer),
    softCap: config.attentionSoftCap,
    ...(sink && { sink }),
  });
  const mixed = declaration.value(
    place("o_proj.input", "mixed"),
    attend,
    [rotatedQuery, keyCache, valueCache],
    queries,
  );
  const size = { columns: hiddenSize };
  const output = projection(declaration, place("o_proj", "output"), size, {
    input: mixed,
    inputs: queries.columns,
    bias: config.outputBias,
  });
  return declaration.value(scope.place(module, "branch", "attention"), identity(), [output], size);
}

/** The layer's RoPE; a layer without one hands queries and keys on as they are. */
function rotation({ rotary, headDim }: ModelConfig, layer: number): Op {
  const turns = rotary(layer);
  return turns ? rope({ headDim, pairing: "half", ...turns }) : identity();
}
