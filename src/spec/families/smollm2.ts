import type { Family } from "./family.js";
import { biases, biasFields, parsed, plainDecoder, sharedFields, slidingLayers, windowFields } from "./fields.js";

const schema = sharedFields.extend({ ...biasFields, ...windowFields });

/** SmolLM2 under a name of its own; most of its checkpoints call themselves llama. */
export const smollm2: Family = {
  modelTypes: ["smollm2"],
  read(json, origin) {
    const c = parsed(schema, json, origin);
    return {
      ...plainDecoder(c, origin),
      ...biases(c),
      windowLeft: slidingLayers(c),
    };
  },
};
