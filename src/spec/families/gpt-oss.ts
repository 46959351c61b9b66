import { z } from "zod";
import type { Family } from "./family.js";
import { biasFields, parsed, plainDecoder, sharedFields, slidingWhere, windowFields, windowWhere } from "./fields.js";
import { mixtureBranch } from "./mixture.js";
import { expertCountOf, mixtureFields } from "./mixture-fields.js";

const schema = sharedFields.extend({
  ...biasFields,
  ...mixtureFields,
  sliding_window: windowFields.sliding_window,
  layer_types: windowFields.layer_types,
  swiglu_alpha: z.number().positive().nullish(),
  swiglu_limit: z.number().positive().nullish(),
});

/** RoPE where the config says nothing of it. */
const longContext = {
  rope_type: "yarn",
  factor: 32,
  beta_fast: 32,
  beta_slow: 1,
  truncate: false,
  original_max_position_embeddings: 4096,
};

/**
 * gpt-oss: attention sinks, a window of keys in every second layer, and clamped gated experts of which gate and up alternate
 * in one matrix [inputs, outputs]; here unquantised. OpenAI, "gpt-oss-120b & gpt-oss-20b Model Card", 2025.
 */
export const gptOss: Family = {
  modelTypes: ["gpt_oss"],
  read(json, origin) {
    const c = parsed(schema, json, origin, {
      num_key_value_heads: 8,
      head_dim: 64,
      max_position_embeddings: 131072,
      sliding_window: 128,
      rope_theta: 150000,
    });
    const { experts, topK, width } = expertCountOf(c, origin);
    const plain = plainDecoder({ ...c, rope_parameters: c.rope_parameters ?? c.rope_scaling ?? longContext }, origin);
    const biased = c.attention_bias !== false;
    return {
      ...plain,
      queryKeyValueBias: biased,
      outputBias: biased,
      attentionSinks: true,
      windowLeft: windowWhere(
        c.sliding_window,
        slidingWhere(c, (layer) => layer % 2 === 0),
      ),
      feedForward: () => (scope, _, input) => {
        const mlp = `${scope.path}.mlp`;
        const both = {
          weight: `${mlp}.experts.gate_up_proj`,
          bias: `${mlp}.experts.gate_up_proj_bias`,
          transposed: true,
          step: 2,
        };
        return mixtureBranch(scope, input, {
          routing: { experts, topK, scoring: "softmax-of-chosen", renormalised: false, scale: 1 },
          router: { module: "router", weight: `${mlp}.router.weight`, bias: `${mlp}.router.bias` },
          hidden: plain.hiddenSize,
          width,
          experts: {
            gate: { ...both, first: 0 },
            up: { ...both, first: 1 },
            down: {
              weight: `${mlp}.experts.down_proj`,
              bias: `${mlp}.experts.down_proj_bias`,
              transposed: true,
            },
          },
          gating: { alpha: c.swiglu_alpha ?? 1.702, limit: c.swiglu_limit ?? 7 },
        });
      },
    };
  },
};
