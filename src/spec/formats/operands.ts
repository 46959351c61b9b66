import { InputError } from "../../tensor/errors.js";
import { type NarrowFormat, narrowFormats } from "../../tensor/narrow-format.js";
import type { Quantisation, ScaleTile, ScaleType } from "../../tensor/quantisation.js";
import { declaredBlock, groupsFor, type NumbersConfig, type QuantisationConfig } from "./config.js";
import type { StoredWeight } from "./stored-weight.js";

const all = Infinity;
const perToken: ScaleTile = { rows: 1, columns: all };
const perTensor: ScaleTile = { rows: all, columns: all };
const perGroup = (columns: number): ScaleTile => ({ rows: 1, columns });
const magnitude = { scaling: "magnitude", scaleType: "float32" } as const;
const { e4m3, fp4 } = narrowFormats;

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

/** Elements that share a scale, and how it is kept, in microscaling formats and in NVFP4. */
const microscaling = {
  size: 32,
  types: ["power-of-two-nearest", "power-of-two", "power-of-two-above"],
} as const satisfies { size: number; types: readonly ScaleType[] };
const nvfp4Size = 16;

/**
 * The narrow numbers in which kernels take the operand of a quantised weight, where the config says that they do; a kernel
 * may always leave it as it is.
 * @throws InputError when the config declares operands that are not known here, or a fixed scale is no positive number.
 */
export function operandsOf(stored: StoredWeight): Quantisation[] {
  const { config } = stored;
  switch (config.quant_method) {
    case "fp8": {
      const fixed = fixedScale(stored, ".activation_scale") ?? fixedScale(stored, ".input_scale");
      if (fixed !== undefined) return [{ ...magnitude, format: e4m3, tile: perTensor, fixed }];
      if (config.activation_scheme !== "dynamic") return [];
      const block = declaredBlock(config);
      if (!block) return [perToken, perTensor].map((tile) => ({ ...magnitude, format: e4m3, tile }));
      const tile = perGroup(block[1]);
      // Checkpoints whose scales are powers of two are run with such scales of the operand too, and not by every kernel.
      const types = (["float32", "power-of-two-above"] as const).slice(0, config.scale_fmt === "ue8m0" ? 2 : 1);
      return types.map((scaleType) => ({ ...magnitude, format: e4m3, tile, scaleType }));
    }
    case "fbgemm_fp8":
      return [{ ...magnitude, format: e4m3, tile: perToken }];
    case "modelopt":
    case "modelopt_fp4": {
      const scale = fixedScale(stored, ".input_scale");
      if (scale === undefined) return [];
      if (stored.has(".weight_scale_2")) return [inNvfp4(Math.fround(1 / scale))];
      return [{ ...magnitude, format: e4m3, tile: perTensor, fixed: scale }];
    }
    case "compressed-tensors": {
      const all = groupsFor(config, stored.module).flatMap(([name, { input_activations }]) =>
        input_activations ? declaredOperands(stored, input_activations, `config_groups.${name}.input_activations`) : [],
      );
      // Several groups may declare the same.
      const keys = all.map((quantisation) => JSON.stringify(quantisation));
      return all.filter((_, i) => keys.indexOf(keys[i]!) === i);
    }
    default:
      return [];
  }
}

/** e2m1 in groups of 16 whose scales are multiplied by `global` before they become e4m3. */
function inNvfp4(global: number): Quantisation {
  return { format: fp4, tile: perGroup(nvfp4Size), scaling: "magnitude", scaleType: "e4m3", global };
}

function declaredOperands(stored: StoredWeight, numbers: NumbersConfig, field: string): Quantisation[] {
  const { num_bits: bits, type, symmetric, strategy, group_size: size, dynamic, scale_dtype } = numbers;
  const unknown = unknownOperands(stored.config, numbers, field);
  const inExponents = scale_dtype?.endsWith("uint8") ?? false;
  if (strategy === "tensor_group") {
    if (type !== "float" || bits !== 4 || size !== nvfp4Size || symmetric === false) throw unknown;
    stored.shaped(".input_global_scale", ["float32"], [1], []);
    return [inNvfp4(fixedScale(stored, ".input_global_scale")!)];
  }
  const tile = tileFor(strategy, size);
  const fixed = dynamic === false ? staticScale(stored) : undefined;
  const isMicroscaled = type === "float" && strategy === "group" && size === microscaling.size && fixed === undefined;
  const narrow = type === "float" ? (bits === 8 ? e4m3 : bits === 4 ? fp4 : undefined) : undefined;
  if (!tile) throw unknown;
  if (narrow && symmetric !== false) {
    if (narrow === fp4 && !isMicroscaled) throw unknown;
    const exact = { ...magnitude, format: narrow, tile, fixed };
    if (!isMicroscaled || (narrow === e4m3 && !inExponents)) return [exact];
    return microscaling.types.map((scaleType) => ({ ...exact, scaleType }));
  }
  if (type !== "int" || bits !== 8) throw unknown;
  if (symmetric !== false)
    return [narrowFormats.int8, wholeInt8].map((format) => ({ ...magnitude, format, tile, fixed }));
  if (fixed !== undefined) throw unknown;
  // compressed-tensors lets 0 be one of the numbers; vLLM's kernel takes the range as it is.
  return [true, false].map((aroundZero) => ({
    format: narrowFormats.int8,
    tile,
    scaling: "range",
    scaleType: "float32",
    aroundZero,
  }));
}

function tileFor(strategy: string | null | undefined, size: number | null | undefined): ScaleTile | undefined {
  if (strategy === "token") return perToken;
  if (strategy === "tensor") return perTensor;
  return size && size > 0 ? perGroup(size) : undefined;
}

function unknownOperands({ origin }: QuantisationConfig, numbers: NumbersConfig, field: string): InputError {
  const { num_bits, type, strategy, group_size, symmetric, dynamic } = numbers;
  const found = [
    `${num_bits}-bit ${type}`,
    ...(strategy ? [`strategy "${strategy}"`] : []),
    ...(group_size ? [`group_size ${group_size}`] : []),
    ...(symmetric === false ? ["with zero points"] : []),
    ...(dynamic === false ? ["fixed"] : []),
  ];
  return new InputError(
    `${origin}.${field}: expected 8-bit numbers per tensor, token or group, or 4-bit floats in groups of ${nvfp4Size} (tensor_group) or ${microscaling.size}, found ${found.join(", ")}`,
  );
}

/** The scale that a static scheme needs. @throws InputError when the checkpoint lacks it. */
function staticScale(stored: StoredWeight): number {
  stored.entry(".input_scale");
  return fixedScale(stored, ".input_scale")!;
}

/** A scale of the operand that the checkpoint holds. @throws InputError when it is no positive number. */
function fixedScale(stored: StoredWeight, part: string): number | undefined {
  if (!stored.has(part)) return undefined;
  stored.shaped(part, ["float32", "bfloat16", "float16"], [], [1]);
  const [scale] = stored.values(part);
  if (!(scale! > 0 && scale! < Infinity)) throw stored.fault(part, "a positive number", String(scale));
  return scale;
}
