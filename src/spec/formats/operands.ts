import { type NarrowFormat, narrowFormats } from "../../tensor/narrow-format.js";
import type { Quantisation, ScaleTile } from "../../tensor/quantisation.js";
import { declaredBlock, type NumbersConfig } from "./config.js";
import type { StoredWeight } from "./stored-weight.js";

const all = Infinity;
const perToken: ScaleTile = { rows: 1, columns: all };
const perTensor: ScaleTile = { rows: all, columns: all };
const magnitude = { scaling: "magnitude", scaleType: "float32" } as const;

/** Ties to even. */
function nearestWhole(x: number): number {
  const magic = 1.5 * 2 ** 52;
  return x + magic - magic;
}

/** int8 down to −128, whose scale compressed-tensors takes from half of all 255 steps: 127.5. */
const wholeInt8: NarrowFormat = {
  ...narrowFormats.int8,
  id: "int8 of 255 steps",
  largest: 127.5,
  round(values) {
    for (let i = 0; i < values.length; i++) values[i] = nearestWhole(Math.min(127, Math.max(-128, values[i]!)));
  },
};

/**
 * The narrow numbers in which kernels take the operand of a quantised weight, where the config says that they do; a kernel
 * may always leave it as it is.
 * @throws InputError when a fixed scale is no positive number.
 */
export function operandsOf(stored: StoredWeight): Quantisation[] {
  const { config } = stored;
  switch (config.quant_method) {
    case "fp8": {
      const { e4m3: format } = narrowFormats;
      const fixed = fixedScale(stored, ".activation_scale") ?? fixedScale(stored, ".input_scale");
      if (fixed !== undefined) return [{ ...magnitude, format, tile: perTensor, fixed }];
      const block = declaredBlock(config);
      const tiles = block ? [{ rows: 1, columns: block[1] }] : [perToken, perTensor];
      return config.activation_scheme === "dynamic" ? tiles.map((tile) => ({ ...magnitude, format, tile })) : [];
    }
    case "fbgemm_fp8":
      return [{ ...magnitude, format: narrowFormats.e4m3, tile: perToken }];
    case "compressed-tensors": {
      const declared = Object.values(config.config_groups ?? {}).flatMap(
        ({ input_activations }) => input_activations ?? [],
      );
      return declared.flatMap((numbers) => declaredOperands(stored, numbers));
    }
    default:
      return [];
  }
}

function declaredOperands(stored: StoredWeight, numbers: NumbersConfig): Quantisation[] {
  const { num_bits: bits, type, symmetric, strategy, group_size: size, dynamic } = numbers;
  const tile =
    strategy === "token"
      ? perToken
      : strategy === "tensor"
        ? perTensor
        : size && size > 0
          ? { rows: 1, columns: size }
          : undefined;
  // Scales in fp8 or exponents, and zero points of activations, belong to kernels nobody's reference runs on a CPU.
  if (!tile || symmetric === false) return [];
  const fixed = dynamic === false ? fixedScale(stored, ".input_scale") : undefined;
  if (dynamic === false && fixed === undefined) return [];
  if (type === "float" && bits === 8) return [{ ...magnitude, format: narrowFormats.e4m3, tile, fixed }];
  if (type === "int" && bits === 8) {
    return [narrowFormats.int8, wholeInt8].map((format) => ({ ...magnitude, format, tile, fixed }));
  }
  return [];
}

/** A scale of the operand that the checkpoint holds. @throws InputError when it is no positive number. */
function fixedScale(stored: StoredWeight, part: string): number | undefined {
  if (!stored.has(part)) return undefined;
  stored.shaped(part, ["float32", "bfloat16", "float16"], [], [1]);
  const [scale] = stored.values(part);
  if (!(scale! > 0 && scale! < Infinity)) throw stored.fault(part, "a positive number", String(scale));
  return scale;
}
