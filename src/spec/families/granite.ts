import { z } from "zod";
import type { Family } from "./family.js";
import { biases, biasFields, parsed, plainDecoder, sharedFields } from "./fields.js";

const factor = z.number().positive();

const schema = sharedFields.extend({
  ...biasFields,
  embedding_multiplier: factor.nullish(),
  residual_multiplier: factor.nullish(),
  attention_multiplier: factor.nullish(),
  logits_scaling: factor.nullish(),
});

/** Granite 3: factors on embedding, scores, branches and logits. Granite Team, "Granite 3.0 Language Models", 2024. */
export const granite: Family = {
  modelTypes: ["granite"],
  read(json, origin) {
    const c = parsed(schema, json, origin);
    return {
      ...plainDecoder(c, origin),
      ...biases(c),
      embeddingScale: c.embedding_multiplier ?? 1,
      residualScale: c.residual_multiplier ?? 1,
      attentionScale: c.attention_multiplier ?? 1,
      logitScale: 1 / (c.logits_scaling ?? 1),
    };
  },
};
