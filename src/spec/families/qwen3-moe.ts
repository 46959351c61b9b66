import type { Family } from "./family.js";
import {
  attentionBiases,
  biasFields,
  parsed,
  plainDecoder,
  sharedFields,
  slidingLayers,
  windowFields,
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
    const c = parsed(schema, json, origin);
    const plain = plainDecoder(c, origin);
    return {
      ...plain,
      queryKeyNorm: true,
      ...attentionBiases(c),
      windowLeft: slidingLayers({ ...c, use_sliding_window: c.use_sliding_window ?? false }),
      feedForward: sparseMixture(c, plain, origin),
    };
  },
};
