import type { Family } from "./family.js";
import { biasFields, parsed, sharedFields, slidingWhere, windowFields, windowWhere } from "./fields.js";
import { olmo2 } from "./olmo2.js";
import { ropeByLayerType, ropeByTypeFields } from "./rope-by-layer-type.js";

const schema = sharedFields.extend({
  ...ropeByTypeFields,
  attention_bias: biasFields.attention_bias,
  layer_types: windowFields.layer_types,
  sliding_window: windowFields.sliding_window,
});

/** OLMo 3: OLMo 2 with a window of keys in three layers of four, whose RoPE is never scaled. */
export const olmo3: Family = {
  modelTypes: ["olmo3"],
  read(json, origin) {
    const { rope_parameters: rope, ...c } = parsed(schema, json, origin, { sliding_window: 4096 });
    const slides = slidingWhere(c, (layer) => (layer + 1) % 4 !== 0);
    const theta = c.rope_theta ?? 500000;
    return {
      ...olmo2.read({ ...c, rope_scaling: undefined }, origin),
      ...ropeByLayerType(c, rope, slides, { full: theta, sliding: theta }, origin),
      windowLeft: windowWhere(c.sliding_window, slides),
    };
  },
};
