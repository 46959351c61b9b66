import { z } from "zod";
import type { ModelConfig } from "../models/config.js";
import { ropeParametersSchema } from "../models/rope-scaling.js";
import { type SharedFields, turningOf } from "./fields.js";

const byType = z.looseObject({
  full_attention: ropeParametersSchema.nullish(),
  sliding_attention: ropeParametersSchema.nullish(),
});

/** `rope_parameters` of families whose sliding layers may have a RoPE of their own. */
export const ropeByTypeFields = { rope_parameters: z.union([byType, ropeParametersSchema]).nullish() };

/**
 * The RoPE of each layer, by whether it slides: of `rope_parameters` by layer type, else `rope_scaling` in layers that see
 * every key and none in those that slide.
 * @param c the other fields.
 * @param parameters `rope_parameters`.
 * @param thetas bases where the config names none.
 */
export function ropeByLayerType(
  c: SharedFields,
  parameters: z.infer<typeof ropeByTypeFields.rope_parameters>,
  slides: (layer: number) => boolean,
  thetas: { readonly full: number; readonly sliding: number },
  origin: string,
): Pick<ModelConfig, "rotary" | "inverseFrequencies" | "ropeAttentionFactor" | "ropeTheta"> {
  const given = byType.parse(parameters ?? {});
  const full = given.full_attention ?? c.rope_scaling ?? {};
  const sliding = given.sliding_attention ?? {};
  const ropeTheta = full.rope_theta ?? thetas.full;
  const everyKey = turningOf(c, full, ropeTheta, origin);
  const window = turningOf(c, sliding, sliding.rope_theta ?? thetas.sliding, origin);
  const { inverseFrequencies, attentionFactor } = slides(0) ? window : everyKey;
  return {
    rotary: (layer) => (slides(layer) ? window : everyKey),
    inverseFrequencies,
    ropeAttentionFactor: attentionFactor,
    ropeTheta,
  };
}
