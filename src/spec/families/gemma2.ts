import { z } from "zod";
import type { ModelConfig } from "../models/config.js";
import type { Family } from "./family.js";
import {
  activationOf,
  attentionBiases,
  biasFields,
  parsed,
  plainDecoder,
  sharedFields,
  slidingWhere,
  windowFields,
  windowWhere,
} from "./fields.js";

const cap = z.number().positive().nullish();

/** Fields that Gemma 2 and 3 share. */
export const gemmaFields = sharedFields.extend({
  attention_bias: biasFields.attention_bias,
  layer_types: windowFields.layer_types,
  sliding_window: windowFields.sliding_window,
  hidden_activation: z.string().nullish(),
  query_pre_attn_scalar: z.number().positive().nullish(),
  attn_logit_softcapping: cap,
  final_logit_softcapping: cap,
  use_bidirectional_attention: z.literal(false, "only attention to earlier tokens is supported").nullish(),
});

/** What the configuration classes of both fill in. */
export const gemmaDefaults = { num_key_value_heads: 4, head_dim: 256, sliding_window: 4096 };

/** What Gemma 2 and 3 share: norms before and after each branch with weights stored minus one, and a scaled embedding. */
export function gemmaDecoder(c: z.infer<typeof gemmaFields>, origin: string): ModelConfig {
  return {
    ...plainDecoder(c, origin),
    activation: activationOf(c.hidden_activation ?? "gelu_pytorch_tanh", "hidden_activation", origin),
    normOffset: 1,
    norms: {
      attention: { before: "input_layernorm", after: "post_attention_layernorm" },
      mlp: { before: "pre_feedforward_layernorm", after: "post_feedforward_layernorm" },
    },
    ...attentionBiases(c),
    tiedEmbeddings: c.tie_word_embeddings ?? true,
    embeddingScale: Math.sqrt(c.hidden_size),
    embeddingScaledInModule: true,
    attentionScale: (c.query_pre_attn_scalar ?? 256) ** -0.5,
    logitSoftCap: c.final_logit_softcapping ?? undefined,
  };
}

/** Gemma 2: every second layer sees a window of keys, scores and logits are capped. Gemma Team, "Gemma 2", 2024. */
export const gemma2: Family = {
  modelTypes: ["gemma2"],
  read(json, origin) {
    const c = parsed(gemmaFields, json, origin, {
      ...gemmaDefaults,
      max_position_embeddings: 8192,
      attn_logit_softcapping: 50,
      final_logit_softcapping: 30,
    });
    const slides = slidingWhere(c, (layer) => layer % 2 === 0);
    return {
      ...gemmaDecoder(c, origin),
      attentionSoftCap: c.attn_logit_softcapping ?? undefined,
      windowLeft: windowWhere(c.sliding_window, slides),
    };
  },
};
