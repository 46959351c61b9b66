import { z } from "zod";
import type { Family } from "./family.js";
import { parsed, plainDecoder, sharedFields, slidingLayers, windowFields } from "./fields.js";
import { expertModules, mixtureBranch } from "./mixture.js";
import { expertCountOf, isDenseLayer, mixtureFields, sparseFields } from "./mixture-fields.js";

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
    const { experts, topK, width } = expertCountOf(c, origin);
    const plain = plainDecoder(c, origin);
    return {
      ...plain,
      queryKeyValueBias: c.qkv_bias !== false,
      windowLeft: slidingLayers({ ...c, use_sliding_window: c.use_sliding_window ?? false }),
      feedForward: (layer) =>
        isDenseLayer(c, layer)
          ? undefined
          : (scope, _, input) => {
              const mlp = `${scope.path}.mlp`;
              return mixtureBranch(scope, input, {
                routing: { experts, topK, scoring: "softmax", renormalised: c.norm_topk_prob === true, scale: 1 },
                router: { module: "gate", weight: `${mlp}.gate.weight` },
                hidden: plain.hiddenSize,
                width,
                experts: expertModules(`${mlp}.experts`, experts, {
                  gate: "gate_proj",
                  up: "up_proj",
                  down: "down_proj",
                }),
                gating: plain.activation,
                shared: {
                  module: "shared_expert",
                  width: c.shared_expert_intermediate_size,
                  activation: plain.activation,
                  gate: "shared_expert_gate",
                },
              });
            },
    };
  },
};
