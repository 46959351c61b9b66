import { describe, expect, it } from "vitest";
import { type DType, dtypes, floatFormat, roundTo, tf32Format, unitInLastPlace } from "../../src/tensor/dtype.js";
import { roundAll, roundToFormat } from "../../src/tensor/rounding.js";

const narrow = ["float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"] as const;

let state = 1;
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  return (state >>> 0) / 2 ** 32;
}

/** Numbers of any size a float64 has, from their bits. */
function anyBits(count: number): Float64Array {
  const words = Uint32Array.from({ length: 2 * count }, () => random() * 2 ** 32);
  return new Float64Array(words.buffer);
}

/** Neighbours in `dtype`, the middles between them, and numbers a float64 step beside those; from its last ones to its first. */
function ties(dtype: DType): number[] {
  const { minExponent, fractionBits, max } = floatFormat(dtype)!;
  const last = Math.log2(max) + 2;
  return Array.from({ length: 20_000 }, () => {
    const exponent = Math.floor(random() * (last - minExponent + fractionBits + 4)) + minExponent - fractionBits - 4;
    const kept = Math.floor(random() * 2 ** fractionBits) * 2 ** -fractionBits;
    const beyond = random() < 0.5 ? 2 ** -(fractionBits + 1) : 0;
    const beside = [0, 0, 2 ** -52, -(2 ** -52)][Math.floor(random() * 4)]!;
    return (random() < 0.5 ? -1 : 1) * (1 + kept + beyond + beside) * 2 ** exponent;
  });
}

function special(dtype: DType): number[] {
  const format = floatFormat(dtype)!;
  const smallest = 2 ** (format.minExponent - format.fractionBits);
  const last = unitInLastPlace(format.max, format);
  const edges = [format.max, format.max + last * 0.49, format.max + last / 2, format.max + last * 0.51, format.max * 2];
  const small = [
    smallest,
    smallest / 2,
    smallest * 0.51,
    smallest * 1.5,
    smallest * 2.5,
    5e-324,
    2 ** format.minExponent,
  ];
  const positive = [...edges, ...small, 0, 1, Infinity, Number.NaN, Number.MAX_VALUE, 1e300];
  return [...positive, ...positive.map((x) => -x)];
}

describe.each(narrow)("rounding many numbers to %s", (dtype) => {
  it.each([
    ["of any bits", () => [...anyBits(20_000)]],
    ["at and beside the middles between neighbours", () => ties(dtype)],
    ["at the ends of its range", () => special(dtype)],
  ])("is rounding each, for numbers %s", (_, make) => {
    const values = make();
    const rounded = Float64Array.from(values);
    roundAll(rounded, dtype);
    // A zero has lost its sign.
    const wrong = values.findIndex((value, i) => !Object.is(rounded[i]! + 0, roundTo(value, dtype) + 0));
    expect(wrong < 0 || [values[wrong], rounded[wrong], roundTo(values[wrong]!, dtype)]).toBe(true);
  });

  it("leaves what lies outside the range that was asked for", () => {
    const values = new Float64Array(9).fill(1 / 3);
    roundAll(values, dtype, 2, 5);
    expect([...values].map((value) => value === 1 / 3)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8].map((i) => i < 2 || i > 4));
  });
});

describe("rounding many numbers", () => {
  it("to TF32 keeps 10 fraction bits and the range of float32", () => {
    const largest = (2 - 2 ** -10) * 2 ** 127;
    const inputs = [
      1 + 2 ** -11,
      1 + 3 * 2 ** -11,
      1 + 2 ** -11 + 2 ** -40,
      2 ** -136,
      2 ** -137,
      largest,
      3.403e38,
      -1e39,
    ];
    const rounded = Float64Array.from(inputs);
    roundToFormat(rounded, tf32Format);
    expect([...rounded]).toEqual([1, 1 + 2 ** -9, 1 + 2 ** -10, 2 ** -136, 0, largest, Infinity, -Infinity]);
  });

  it.each(dtypes.filter((dtype) => dtype === "float64" || !floatFormat(dtype)))("to %s changes none", (dtype) => {
    const values = Float64Array.of(1 / 3, 1e300, -0.5);
    roundAll(values, dtype);
    expect([...values]).toEqual([1 / 3, 1e300, -0.5]);
  });
});
