import { z } from "zod";
import type { Family } from "./family.js";
import { parsed, plainDecoder, sharedFields, slidingLayers, windowFields } from "./fields.js";
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
    const c = parsed(schema, json, origin);
    const plain = plainDecoder(c, origin);
    return {
      ...plain,
      queryKeyValueBias: c.qkv_bias !== false,
      windowLeft: slidingLayers({ ...c, use_sliding_window: c.use_sliding_window ?? false }),
      feedForward: sparseMixture(c, plain, origin, {
        module: "shared_expert",
        width: c.shared_expert_intermediate_size,
        activation: plain.activation,
        gate: "shared_expert_gate",
      }),
    };
  },
};
