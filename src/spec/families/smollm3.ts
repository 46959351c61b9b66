import { z } from "zod";
import { InputError } from "../../tensor/errors.js";
import type { Family } from "./family.js";
import {
  biases,
  biasFields,
  parsed,
  plainDecoder,
  sharedFields,
  slidingWhere,
  switchedWindow,
  windowFields,
  windowWhere,
} from "./fields.js";

const schema = sharedFields.extend({
  ...biasFields,
  ...windowFields,
  no_rope_layers: z.array(z.int().min(0).max(1)).max(1024).nullish(),
  no_rope_layer_interval: z.int().positive().nullish(),
});

/** SmolLM3: every fourth layer goes without RoPE. Yang et al., "RoPE to NoPE and Back Again", 2025. */
export const smollm3: Family = {
  modelTypes: ["smollm3"],
  read(json, origin) {
    const c = parsed(schema, json, origin, {
      num_key_value_heads: 4,
      max_position_embeddings: 32768,
      rope_theta: 2000000,
    });
    const plain = plainDecoder(c, origin);
    const listed = c.no_rope_layers;
    if (listed && listed.length < plain.layerCount) {
      throw new InputError(
        `${origin}: no_rope_layers: expected an entry for each of ${plain.layerCount} layers, found ${listed.length}`,
      );
    }
    const interval = c.no_rope_layer_interval ?? 4;
    const turns = (layer: number) => (listed ? listed[layer] === 1 : (layer + 1) % interval !== 0);
    const slides = slidingWhere(c, (layer) => !turns(layer));
    return {
      ...plain,
      tiedEmbeddings: c.tie_word_embeddings ?? true,
      ...biases(c),
      rotary: (layer) => (turns(layer) ? plain.rotary(layer) : undefined),
      windowLeft: windowWhere(switchedWindow(c), slides),
    };
  },
};
