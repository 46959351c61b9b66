import type { Family } from "./family.js";
import { biasFields, parsed, plainDecoder, sharedFields, slidingLayers, windowFields } from "./fields.js";

const schema = sharedFields.extend({ ...biasFields, ...windowFields });

/** SmolLM2 under a name of its own; most of its checkpoints call themselves llama. */
export const smollm2: Family = {
  modelTypes: ["smollm2"],
  read(json, origin) {
    const c = parsed(schema, json, origin);
    const attention = c.attention_bias === true;
    return {
      ...plainDecoder(c, origin),
      queryKeyValueBias: attention,
      outputBias: attention,
      mlpBias: c.mlp_bias === true,
      windowLeft: slidingLayers(c),
    };
  },
};
