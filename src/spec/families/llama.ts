import type { Family } from "./family.js";
import { biases, biasFields, parsed, plainDecoder, sharedFields } from "./fields.js";

const schema = sharedFields.extend(biasFields);

/** Llama 2 and 3.x. Grattafiori et al., "The Llama 3 Herd of Models", 2024. */
export const llama: Family = {
  modelTypes: ["llama"],
  read(json, origin) {
    const c = parsed(schema, json, origin);
    return {
      ...plainDecoder(c, origin),
      ...biases(c),
    };
  },
};
