import type { Family } from "./family.js";
import { biasFields, parsed, plainDecoder, sharedFields } from "./fields.js";

const schema = sharedFields.extend(biasFields);

/** Llama 2 and 3.x. Grattafiori et al., "The Llama 3 Herd of Models", 2024. */
export const llama: Family = {
  modelTypes: ["llama"],
  read(json, origin) {
    const c = parsed(schema, json, origin);
    const attention = c.attention_bias === true;
    return {
      ...plainDecoder(c, origin),
      queryKeyValueBias: attention,
      outputBias: attention,
      mlpBias: c.mlp_bias === true,
    };
  },
};
