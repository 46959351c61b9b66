import { z } from "zod";
import { InputError } from "../../tensor/errors.js";
import type { RopeAttributes } from "../ops/rope-attributes.js";

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
  attention_factor: z.number().positive().nullish(),
  partial_rotary_factor: z.number().positive().max(1).nullish(),
  short_factor: z.array(z.number().positive()).max(4096).optional(),
  long_factor: z.array(z.number().positive()).max(4096).optional(),
  truncate: z.boolean().optional(),
});

/** RoPE as an op takes it: which channels of a head turn, how fast, and what multiplies cos and sin. */
export type Turning = Pick<RopeAttributes, "rotaryDim" | "inverseFrequencies" | "attentionFactor" | "beyond">;

export type RopeParameters = z.infer<typeof ropeParametersSchema>;

/**
 * Inverse frequencies [rotaryDim / 2] and the factor on cos and sin, for rope types default, linear, llama3, yarn and
 * longrope. llama3: Meta's Llama 3.1 release; yarn: Peng et al., "YaRN", 2023, with Hugging Face's default attention
 * factor; longrope: Ding et al., "LongRoPE", 2024, which has a second set of frequencies for long sequences.
 * @throws InputError for another rope type or a missing parameter.
 */
export function ropeTurning(
  rope: RopeParameters,
  { theta, rotaryDim, maxPositions }: { theta: number; rotaryDim: number; maxPositions: number },
  origin: string,
): Turning {
  const type = rope.rope_type ?? rope.type ?? "default";
  const base = Float64Array.from({ length: rotaryDim / 2 }, (_, j) => theta ** ((-2 * j) / rotaryDim));
  const required = (field: "factor" | "low_freq_factor" | "high_freq_factor") => {
    const value = rope[field];
    if (value === undefined)
      throw new InputError(`${origin}: rope_scaling.${field}: expected a positive number for rope type ${type}`);
    return value;
  };
  switch (type) {
    case "default":
      return { rotaryDim, inverseFrequencies: base, attentionFactor: 1 };
    case "linear": {
      const factor = required("factor");
      return { rotaryDim, inverseFrequencies: base.map((f) => f / factor), attentionFactor: 1 };
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
      return { rotaryDim, inverseFrequencies: scaled, attentionFactor: 1 };
    }
    case "yarn": {
      const factor = required("factor");
      const original = rope.original_max_position_embeddings ?? maxPositions;
      const correction = (rotations: number) =>
        (rotaryDim * Math.log(original / (rotations * 2 * Math.PI))) / (2 * Math.log(theta));
      // gpt-oss leaves the bounds of the ramp between two channels.
      const whole = rope.truncate !== false;
      const [fast, slow] = [correction(rope.beta_fast ?? 32), correction(rope.beta_slow ?? 1)];
      const low = Math.max(whole ? Math.floor(fast) : fast, 0);
      const high = Math.min(whole ? Math.ceil(slow) : slow, rotaryDim - 1);
      const scaled = base.map((f, j) => {
        const ramp = Math.min(Math.max((j - low) / Math.max(high - low, 0.001), 0), 1);
        return (f / factor) * ramp + f * (1 - ramp);
      });
      return {
        rotaryDim,
        inverseFrequencies: scaled,
        attentionFactor: rope.attention_factor ?? (factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1),
      };
    }
    case "longrope": {
      const original = rope.original_max_position_embeddings ?? maxPositions;
      const factors = (field: "short_factor" | "long_factor") => {
        const values = rope[field];
        if (values?.length === rotaryDim / 2) return base.map((f, j) => f / values[j]!);
        throw new InputError(
          `${origin}: rope_scaling.${field}: expected ${rotaryDim / 2} factors for rope type longrope, found ${values?.length ?? "none"}`,
        );
      };
      const stretched = rope.factor ?? maxPositions / original;
      const usual = stretched <= 1 ? 1 : Math.sqrt(1 + Math.log(stretched) / Math.log(original));
      return {
        rotaryDim,
        inverseFrequencies: factors("short_factor"),
        attentionFactor: rope.attention_factor ?? usual,
        beyond: { positions: original, inverseFrequencies: factors("long_factor") },
      };
    }
    default:
      throw new InputError(
        `${origin}: rope_scaling.rope_type: "${type.slice(0, 60)}" is not one of default, linear, llama3, longrope, yarn`,
      );
  }
}
