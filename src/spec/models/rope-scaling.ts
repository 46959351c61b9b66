import { z } from "zod";
import { InputError } from "../../tensor/errors.js";

export const ropeParametersSchema = z.looseObject({
  rope_type: z.string().optional(),
  type: z.string().optional(),
  rope_theta: z.number().positive().optional(),
  factor: z.number().positive().optional(),
  low_freq_factor: z.number().positive().optional(),
  high_freq_factor: z.number().positive().optional(),
  original_max_position_embeddings: z.number().positive().optional(),
  beta_fast: z.number().positive().optional(),
  beta_slow: z.number().positive().optional(),
  attention_factor: z.number().positive().optional(),
  truncate: z.boolean().optional(),
});

type RopeParameters = z.infer<typeof ropeParametersSchema>;

/**
 * Inverse frequencies [headDim / 2] and the factor on cos and sin, for rope types default, linear, llama3 and yarn.
 * llama3: Meta's Llama 3.1 release; yarn: Peng et al., "YaRN", 2023, with Hugging Face's default attention factor.
 * @throws InputError for another rope type or a missing parameter.
 */
export function ropeFrequencies(
  rope: RopeParameters,
  { theta, headDim, maxPositions }: { theta: number; headDim: number; maxPositions: number },
  origin: string,
): { inverseFrequencies: Float64Array; attentionFactor: number } {
  const type = rope.rope_type ?? rope.type ?? "default";
  const base = Float64Array.from({ length: headDim / 2 }, (_, j) => theta ** ((-2 * j) / headDim));
  const required = (field: "factor" | "low_freq_factor" | "high_freq_factor") => {
    const value = rope[field];
    if (value === undefined)
      throw new InputError(`${origin}: rope_scaling.${field}: expected a positive number for rope type ${type}`);
    return value;
  };
  switch (type) {
    case "default":
      return { inverseFrequencies: base, attentionFactor: 1 };
    case "linear": {
      const factor = required("factor");
      return { inverseFrequencies: base.map((f) => f / factor), attentionFactor: 1 };
    }
    case "llama3": {
      const factor = required("factor");
      const low = required("low_freq_factor");
      const high = required("high_freq_factor");
      const original = rope.original_max_position_embeddings ?? maxPositions;
      const scaled = base.map((f) => {
        const wavelength = (2 * Math.PI) / f;
        if (wavelength > original / low) return f / factor;
        if (wavelength < original / high) return f;
        const smooth = (original / wavelength - low) / (high - low);
        return ((1 - smooth) * f) / factor + smooth * f;
      });
      return { inverseFrequencies: scaled, attentionFactor: 1 };
    }
    case "yarn": {
      const factor = required("factor");
      const original = rope.original_max_position_embeddings ?? maxPositions;
      const correction = (rotations: number) =>
        (headDim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
      // gpt-oss leaves the bounds of the ramp between two channels.
      const whole = rope.truncate !== false;
      const [fast, slow] = [correction(rope.beta_fast ?? 32), correction(rope.beta_slow ?? 1)];
      const low = Math.max(whole ? Math.floor(fast) : fast, 0);
      const high = Math.min(whole ? Math.ceil(slow) : slow, headDim - 1);
      const scaled = base.map((f, j) => {
        const ramp = Math.min(Math.max((j - low) / Math.max(high - low, 0.001), 0), 1);
        return (f / factor) * ramp + f * (1 - ramp);
      });
      return {
        inverseFrequencies: scaled,
        attentionFactor: rope.attention_factor ?? (factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1),
      };
    }
    default:
      throw new InputError(
        `${origin}: rope_scaling.rope_type: "${type.slice(0, 60)}" is not one of default, linear, llama3, yarn`,
      );
  }
}
