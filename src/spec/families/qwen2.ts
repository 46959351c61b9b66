import type { Family } from "./family.js";
import { biasFields, parsed, plainDecoder, qwenDefaults, sharedFields, slidingLayers, windowFields } from "./fields.js";

const schema = sharedFields.extend({ ...biasFields, ...windowFields });

/** Qwen2 and Qwen2.5: biases on q, k and v alone, whatever the config says of biases in attention. */
export const qwen2: Family = {
  modelTypes: ["qwen2"],
  read(json, origin) {
    const c = parsed(schema, json, origin, qwenDefaults);
    return {
      ...plainDecoder(c, origin),
      queryKeyValueBias: true,
      mlpBias: c.mlp_bias === true,
      windowLeft: slidingLayers(c),
    };
  },
};
