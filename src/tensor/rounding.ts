import { type ElementMemory, elementMemoryIfMade, mostPlaced } from "./element-memory.js";
import { type DType, floatFormat } from "./element-type.js";
import type { FloatFormat } from "./float-format.js";

const scratch = new Float64Array(1);
const words = new Uint32Array(scratch.buffer);
const high = new Uint8Array(Uint32Array.of(1).buffer)[0] === 1 ? 1 : 0;

/** How numbers of a format are reached from float64. */
interface Steps {
  /**
   * For every exponent of a float64, 1.5 times the power of two whose own last place is the format's there: adding it and
   * taking it away again rounds to that place, ties to even.
   */
  readonly magic: Float64Array;
  /** Exponent of the format's largest number: only from there on can a number overflow. */
  readonly last: number;
  /** The same for the kernel: see `elements.wat`. */
  readonly least: number;
  readonly most: number;
  readonly up: number;
  readonly beyond: number;
}

const known = new Map<FloatFormat, Steps>();

function stepsOf(format: FloatFormat): Steps {
  let steps = known.get(format);
  if (!steps) {
    const { minExponent, fractionBits, max, hasInfinity } = format;
    const last = Math.floor(Math.log2(max)) + 1023;
    const exponentOf = (i: number) => Math.max(i - 1023, minExponent) + 52 - fractionBits;
    const magic = Float64Array.from({ length: last + 1 }, (_, i) => 1.5 * 2 ** exponentOf(i));
    const beyond = hasInfinity ? Infinity : Number.NaN;
    steps = { magic, last, least: 2 ** minExponent, most: 2 ** (last - 1022), up: 52 - fractionBits, beyond };
    known.set(format, steps);
  }
  return steps;
}

/**
 * Rounds elements `first` to `end - 1` of `values` to `dtype` in place: nearest, ties to even, overflow to infinity (for
 * e4m3fn to NaN). Integer types leave them as they are.
 */
export function roundAll(values: Float64Array, dtype: DType, first = 0, end = values.length): void {
  if (dtype === "float64") return;
  if (dtype === "float32") {
    for (let i = first; i < end; i++) values[i] = Math.fround(values[i]!);
    return;
  }
  const format = floatFormat(dtype);
  if (format) roundToFormat(values, format, first, end);
}

/** Numbers from which a kernel is quicker, its call included. */
const worthKernel = 64;

/** The same for any floating-point format of fewer digits than float64. */
export function roundToFormat(values: Float64Array, format: FloatFormat, first = 0, end = values.length): void {
  const memory = end - first < worthKernel ? undefined : elementMemoryIfMade();
  if (!memory) roundOneByOne(values, format, first, end);
  else {
    const paired = end - ((end - first) % 2);
    roundByKernel(memory, values, format, first, paired);
    roundOneByOne(values, format, paired, end);
  }
}

function roundByKernel(
  memory: ElementMemory,
  values: Float64Array,
  format: FloatFormat,
  first: number,
  end: number,
): void {
  const { least, most, up, beyond } = stepsOf(format);
  const isThere = memory.holds(values);
  for (let at = first; at < end; at += mostPlaced) {
    const count = Math.min(mostPlaced, end - at);
    const place = memory.place(values, at, count, 0);
    memory.kernels.round(place, count, least, most, up, format.max, beyond);
    if (!isThere) values.set(memory.slot(0).subarray(0, count), at);
  }
}

function roundOneByOne(values: Float64Array, format: FloatFormat, first: number, end: number): void {
  const round = rounderTo(format);
  for (let i = first; i < end; i++) values[i] = round(values[i]!);
}

/** Rounds one number after the other to a format of fewer digits than float64, as `roundToFormat` does. */
export function rounderTo(format: FloatFormat): (x: number) => number {
  const { max } = format;
  const { magic, last, beyond } = stepsOf(format);
  return (x) => {
    scratch[0] = x;
    const exponent = (words[high]! >>> 20) & 0x7ff;
    if (exponent < last) {
      const far = magic[exponent]!;
      return x + far - far;
    }
    if (exponent === 0x7ff) return x;
    const far = exponent === last ? magic[exponent]! : 0;
    const rounded = x + far - far;
    if (Math.abs(rounded) <= max) return rounded;
    return x > 0 ? beyond : -beyond;
  };
}
