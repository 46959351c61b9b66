import { z } from "zod";
import type { Family } from "./family.js";
import {
  parsed,
  plainDecoder,
  qwenDefaults,
  sharedFields,
  slidingWhere,
  switchedWindow,
  windowFields,
  windowWhere,
} from "./fields.js";
import { mixtureFields, sparseFields } from "./mixture-fields.js";
import { sparseMixture } from "./sparse-mixture.js";

const schema = sharedFields.extend({
  ...windowFields,
  ...mixtureFields,
  ...sparseFields,
  qkv_bias: z.boolean().nullish(),
  shared_expert_intermediate_size: sharedFields.shape.intermediate_size,
});

/** Qwen1.5-MoE and Qwen2-MoE: a softmax router beside a shared expert with a sigmoid gate. "Qwen2 Technical Report", 2024. */
export const qwen2Moe: Family = {
  modelTypes: ["qwen2_moe"],
  read(json, origin) {
    const c = parsed(schema, json, origin, { ...qwenDefaults, num_key_value_heads: 16 });
    const plain = plainDecoder(c, origin);
    return {
      ...plain,
      queryKeyValueBias: c.qkv_bias !== false,
      windowLeft: windowWhere(
        switchedWindow(c),
        slidingWhere(c, (layer) => layer % 2 === 0 && layer < (c.max_window_layers ?? 0)),
      ),
      feedForward: sparseMixture(c, plain, origin, {
        module: "shared_expert",
        width: c.shared_expert_intermediate_size,
        activation: plain.activation,
        gate: "shared_expert_gate",
      }),
    };
  },
};
