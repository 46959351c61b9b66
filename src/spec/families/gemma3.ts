import { z } from "zod";
import type { Family } from "./family.js";
import { parsed, slidingWhere, windowWhere } from "./fields.js";
import { gemmaDecoder, gemmaDefaults, gemmaFields } from "./gemma2.js";
import { ropeByLayerType, ropeByTypeFields } from "./rope-by-layer-type.js";

const schema = gemmaFields.extend({
  ...ropeByTypeFields,
  rope_local_base_freq: z.number().positive().nullish(),
  sliding_window_pattern: z.int().positive().nullish(),
});

/**
 * Gemma 3, its language model: five layers with a window of keys and a RoPE of their own to one without, RMSNorm of every
 * query and key head. Gemma Team, "Gemma 3 Technical Report", 2025.
 */
export const gemma3: Family = {
  modelTypes: ["gemma3_text"],
  read(json, origin) {
    const { rope_parameters: rope, ...c } = parsed(schema, json, origin, {
      ...gemmaDefaults,
      max_position_embeddings: 131072,
    });
    const slides = slidingWhere(c, (layer) => (layer + 1) % (c.sliding_window_pattern ?? 6) !== 0);
    const thetas = { full: c.rope_theta ?? 1000000, sliding: c.rope_local_base_freq ?? 10000 };
    return {
      ...gemmaDecoder({ ...c, rope_scaling: undefined }, origin),
      queryKeyNorm: true,
      ...ropeByLayerType(c, rope, slides, thetas, origin),
      windowLeft: windowWhere(c.sliding_window, slides),
    };
  },
};
