import type { Family } from "./family.js";
import { parsed, plainDecoder, sharedFields, windowFields, windowWhere } from "./fields.js";

const schema = sharedFields.extend({ sliding_window: windowFields.sliding_window });

/** Mistral: a window of keys in every layer, where the config has one. Jiang et al., "Mistral 7B", 2023. */
export const mistral: Family = {
  modelTypes: ["mistral"],
  read(json, origin) {
    const c = parsed(schema, json, origin, {
      num_key_value_heads: 8,
      max_position_embeddings: 131072,
      sliding_window: 4096,
    });
    return { ...plainDecoder(c, origin), windowLeft: windowWhere(c.sliding_window, () => true) };
  },
};
