import type { Family } from "./family.js";
import {
  biases,
  biasFields,
  parsed,
  plainDecoder,
  qwenDefaults,
  sharedFields,
  slidingLayers,
  windowFields,
} from "./fields.js";

const schema = sharedFields.extend({ ...biasFields, ...windowFields });

/** Qwen3: RMSNorm of every query and key head. Qwen Team, "Qwen3 Technical Report", 2025. */
export const qwen3: Family = {
  modelTypes: ["qwen3"],
  read(json, origin) {
    const c = parsed(schema, json, origin, { ...qwenDefaults, head_dim: 128 });
    return {
      ...plainDecoder(c, origin),
      queryKeyNorm: true,
      ...biases(c),
      windowLeft: slidingLayers(c),
    };
  },
};
