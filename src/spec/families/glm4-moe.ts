import { z } from "zod";
import { InputError } from "../../tensor/errors.js";
import type { Routing } from "../ops/routing.js";
import type { Family } from "./family.js";
import { biasFields, parsed, plainDecoder, sharedFields } from "./fields.js";
import { expertModules, mixtureBranch } from "./mixture.js";
import { expertCountOf, mixtureFields } from "./mixture-fields.js";

const schema = sharedFields.extend({
  ...biasFields,
  ...mixtureFields,
  use_qk_norm: z.boolean().nullish(),
  norm_topk_prob: z.boolean().nullish(),
  routed_scaling_factor: z.number().positive().nullish(),
  n_group: z.int().positive().nullish(),
  topk_group: z.int().positive().nullish(),
  n_shared_experts: z.int().positive().max(4096).nullish(),
  first_k_dense_replace: z.int().nonnegative().nullish(),
});

/**
 * GLM-4.5 and 4.6: DeepSeek-V3's router, sigmoids in float32 with a bias for the choice, beside a shared expert, and RoPE over
 * half of each head. GLM-4.5 Team, "GLM-4.5", 2025; DeepSeek-AI, "DeepSeek-V3 Technical Report", 2024.
 */
export const glm4Moe: Family = {
  modelTypes: ["glm4_moe"],
  read(json, origin) {
    const c = parsed(schema, json, origin, { num_key_value_heads: 8, max_position_embeddings: 131072 });
    const { experts, topK, width } = expertCountOf(c, origin);
    const groups = groupsOf(c, experts, origin);
    const plain = plainDecoder({ ...c, partial_rotary_factor: c.partial_rotary_factor ?? 0.5 }, origin);
    return {
      ...plain,
      queryKeyNorm: c.use_qk_norm === true,
      queryKeyValueBias: c.attention_bias === true,
      feedForward: (layer) =>
        layer < (c.first_k_dense_replace ?? 1)
          ? undefined
          : (scope, _, input) => {
              const mlp = `${scope.path}.mlp`;
              return mixtureBranch(scope, input, {
                routing: {
                  experts,
                  topK,
                  scoring: "sigmoid",
                  logitsType: "float32",
                  bias: `${mlp}.gate.e_score_correction_bias`,
                  groups,
                  renormalised: c.norm_topk_prob !== false,
                  scale: c.routed_scaling_factor ?? 1,
                },
                router: { module: "gate", weight: `${mlp}.gate.weight` },
                weightsType: "float32",
                hidden: plain.hiddenSize,
                width,
                experts: expertModules(`${mlp}.experts`, experts, {
                  gate: "gate_proj",
                  up: "up_proj",
                  down: "down_proj",
                }),
                gating: plain.activation,
                shared: {
                  module: "shared_experts",
                  width: width * (c.n_shared_experts ?? 1),
                  activation: plain.activation,
                },
              });
            },
    };
  },
};

/** @throws InputError where groups do not divide the experts, or more are kept than there are. */
function groupsOf(
  { n_group: count, topk_group: kept }: z.infer<typeof schema>,
  experts: number,
  origin: string,
): Routing["groups"] {
  if (!count || count === 1) return undefined;
  if (experts % count !== 0)
    throw new InputError(`${origin}: n_group: expected a divisor of ${experts} experts, found ${count}`);
  if (!kept || kept > count)
    throw new InputError(
      `${origin}: topk_group: expected at most the ${count} groups there are, found ${kept ?? "none"}`,
    );
  return { count, kept };
}
