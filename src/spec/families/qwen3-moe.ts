import type { Family } from "./family.js";
import {
  attentionBiases,
  biasFields,
  parsed,
  plainDecoder,
  qwenDefaults,
  sharedFields,
  switchedWindow,
  windowFields,
  windowWhere,
} from "./fields.js";
import { mixtureFields, sparseFields } from "./mixture-fields.js";
import { sparseMixture } from "./sparse-mixture.js";

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
    const c = parsed(schema, json, origin, { ...qwenDefaults, num_key_value_heads: 4 });
    const plain = plainDecoder(c, origin);
    return {
      ...plain,
      queryKeyNorm: true,
      ...attentionBiases(c),
      windowLeft: windowWhere(switchedWindow(c), () => true),
      feedForward: sparseMixture(c, plain, origin),
    };
  },
};
