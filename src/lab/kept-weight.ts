import { type DType, encode, roundTo } from "../tensor/dtype.js";
import type { TensorBytes } from "../tensor/safetensors.js";

/** A weight [outputs, inputs] as a checkpoint keeps it: numbers by element, written out and apart from the readers in the spec. */
export interface KeptWeight {
  /** Tensors by what stands behind the module's name. */
  readonly tensors: readonly TensorBytes[];
  /** The number, the zero point and the scale of an element, as they lie in the tensors. */
  number(output: number, input: number): number;
  zero?(output: number, input: number): number;
  scale(output: number, input: number): number;
  /** A factor of all scales. */
  readonly global?: number;
  /** What the reference rounds a weight to. */
  readonly rounded: readonly DType[];
}

/** How a weight is written in one format, and what config.json says of it. */
export interface WeightCodec {
  readonly config: Readonly<Record<string, unknown>>;
  keep(values: Float64Array, outputs: number, inputs: number): KeptWeight;
}

/** Inputs, or rows and columns of a block, that share a scale. */
export const size = 32;

export function tensor(name: string, dtype: DType, shape: readonly number[], values: ArrayLike<number>): TensorBytes {
  return { name, dtype, shape, bytes: encode(values, dtype) };
}

/** A scale per tile: what brings its largest magnitude to `top`, as `dtype` holds it. */
export function scalesOf(
  values: Float64Array,
  inputs: number,
  height: number,
  width: number,
  top: number,
  dtype: DType,
) {
  const across = Math.ceil(inputs / width);
  const down = Math.ceil(values.length / inputs / height);
  const largest = new Float64Array(down * across).fill(1e-6);
  values.forEach((x, i) => {
    const at = Math.floor(Math.floor(i / inputs) / height) * across + Math.floor((i % inputs) / width);
    largest[at] = Math.max(largest[at]!, Math.abs(x));
  });
  const scales = largest.map((x) => roundTo(Math.fround(x / top), dtype));
  const of = (output: number, input: number) =>
    scales[Math.floor(output / height) * across + Math.floor(input / width)]!;
  return { scales, shape: [down, across], of };
}

export const clamped = (x: number, low: number, high: number) => Math.max(low, Math.min(high, Math.round(x)));

/** What config.json says of a checkpoint in one of compressed-tensors' formats. */
export function compressed(format: string, weights: object, inputs?: object): Record<string, unknown> {
  const group = { targets: ["Linear"], weights: { symmetric: true, ...weights }, input_activations: inputs ?? null };
  return { quant_method: "compressed-tensors", format, ignore: ["lm_head"], config_groups: { group_0: group } };
}
