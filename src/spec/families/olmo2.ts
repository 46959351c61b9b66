import type { Family } from "./family.js";
import { attentionBiases, biasFields, parsed, plainDecoder, sharedFields } from "./fields.js";

const schema = sharedFields.extend({ attention_bias: biasFields.attention_bias });

/**
 * OLMo 2: branches read the stream itself and are normalised before they are added; all query heads, and all key heads,
 * are normalised together. OLMo Team, "2 OLMo 2 Furious", 2024.
 */
export const olmo2: Family = {
  modelTypes: ["olmo2"],
  read(json, origin) {
    const c = parsed(schema, json, origin);
    return {
      ...plainDecoder(c, origin),
      norms: { attention: { after: "post_attention_layernorm" }, mlp: { after: "post_feedforward_layernorm" } },
      projectionNorm: true,
      ...attentionBiases(c),
    };
  },
};
