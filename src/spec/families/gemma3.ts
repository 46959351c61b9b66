import { z } from "zod";
import { ropeParametersSchema } from "../models/rope-scaling.js";
import type { Family } from "./family.js";
import { parsed, turningOf, windowWhere } from "./fields.js";
import { gemmaDecoder, gemmaFields } from "./gemma2.js";

const byLayerType = z.looseObject({
  full_attention: ropeParametersSchema.nullish(),
  sliding_attention: ropeParametersSchema.nullish(),
});

const schema = gemmaFields.extend({
  rope_parameters: z.union([byLayerType, ropeParametersSchema]).nullish(),
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
    const { rope_parameters: given, ...c } = parsed(schema, json, origin);
    const slides = (layer: number) =>
      c.layer_types
        ? c.layer_types[layer] === "sliding_attention"
        : (layer + 1) % (c.sliding_window_pattern ?? 6) !== 0;
    const types = byLayerType.parse(given ?? {});
    const global = types.full_attention ?? c.rope_scaling ?? {};
    const local = types.sliding_attention ?? {};
    const fields = { ...c, rope_scaling: undefined };
    const globalTheta = global.rope_theta ?? c.rope_theta ?? 1000000;
    const everyKey = turningOf(fields, global, globalTheta, origin);
    const window = turningOf(fields, local, local.rope_theta ?? c.rope_local_base_freq ?? 10000, origin);
    const first = slides(0) ? window : everyKey;
    return {
      ...gemmaDecoder(fields, origin),
      queryKeyNorm: true,
      rotary: (layer) => (slides(layer) ? window : everyKey),
      inverseFrequencies: first.inverseFrequencies,
      ropeAttentionFactor: first.attentionFactor,
      ropeTheta: globalTheta,
      windowLeft: windowWhere(c.sliding_window, slides),
    };
  },
};
