import type { Family } from "./family.js";
import { biasFields, parsed, plainDecoder, sharedFields, slidingLayers, windowFields } from "./fields.js";
import { expertModules, mixtureBranch } from "./mixture.js";
import { expertCountOf, isDenseLayer, mixtureFields, sparseFields } from "./mixture-fields.js";

const schema = sharedFields.extend({
  ...biasFields,
  ...windowFields,
  ...mixtureFields,
  ...sparseFields,
});

/** Qwen3-MoE: Qwen3 with a softmax router over many small experts. Qwen Team, "Qwen3 Technical Report", 2025. */
export const qwen3Moe: Family = {
  modelTypes: ["qwen3_moe"],
  read(json, origin) {
    const c = parsed(schema, json, origin);
    const { experts, topK, width } = expertCountOf(c, origin);
    const plain = plainDecoder(c, origin);
    return {
      ...plain,
      queryKeyNorm: true,
      queryKeyValueBias: c.attention_bias === true,
      outputBias: c.attention_bias === true,
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
              });
            },
    };
  },
};
