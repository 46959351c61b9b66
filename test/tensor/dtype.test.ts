import { describe, expect, it } from "vitest";
import {
  byteWidth,
  type DType,
  decode,
  dtypes,
  elementReader,
  encode,
  floatFormat,
  isDType,
  roundTo,
  smallFloatBits,
  unitInLastPlace,
} from "../../src/tensor/dtype.js";

const small = ["bfloat16", "float16", "float8_e4m3fn", "float8_e5m2"] as const;

/** Every bit pattern of a small float type, as bytes and as numbers. */
function allPatterns(dtype: DType) {
  const width = byteWidth(dtype);
  const count = 2 ** (8 * width);
  const bytes = new Uint8Array(count * width);
  const view = new DataView(bytes.buffer);
  for (let bits = 0; bits < count; bits++)
    width === 2 ? view.setUint16(bits * 2, bits, true) : view.setUint8(bits, bits);
  return { bytes, values: decode(bytes, dtype) };
}

describe.each(small)("%s", (dtype) => {
  const { bytes, values } = allPatterns(dtype);
  const format = floatFormat(dtype)!;
  const finite = Float64Array.from(new Set([...values].filter(Number.isFinite))).sort();

  it("gives every bit pattern back, NaN as NaN", () => {
    const again = decode(encode(values, dtype), dtype);
    const wrong = values.findIndex((value, bits) => !Object.is(again[bits], value));
    expect(wrong).toBe(-1);
    values.forEach((value, bits) => {
      if (!Number.isNaN(value)) expect(smallFloatBits(value, dtype)).toBe(bits);
    });
    expect(bytes.length).toBe(values.length * byteWidth(dtype));
  });

  it("rounds what lies between two neighbours to the nearer one, ties to the even pattern", () => {
    for (let i = 0; i + 1 < finite.length; i += dtype.startsWith("float8") ? 1 : 7) {
      const low = finite[i]!;
      const high = finite[i + 1]!;
      const middle = (low + high) / 2;
      expect(roundTo(low + (high - low) * 0.49, dtype) + 0).toBe(low + 0);
      expect(roundTo(low + (high - low) * 0.51, dtype) + 0).toBe(high + 0);
      const tie = roundTo(middle, dtype);
      expect([low + 0, high + 0]).toContain(tie + 0);
      expect(smallFloatBits(tie, dtype) % 2).toBe(0);
    }
  });

  it("overflows to infinity, or to NaN where there is none", () => {
    const ulp = unitInLastPlace(format.max, format);
    expect(roundTo(format.max, dtype)).toBe(format.max);
    expect(roundTo(format.max + ulp * 0.49, dtype)).toBe(format.max);
    const beyond = roundTo(-format.max - ulp, dtype);
    expect(beyond).toBe(format.hasInfinity ? -Infinity : Number.NaN);
    expect(decode(encode([Infinity, -Infinity], dtype), dtype)).toEqual(
      format.hasInfinity ? Float64Array.of(Infinity, -Infinity) : Float64Array.of(Number.NaN, Number.NaN),
    );
  });

  it("keeps subnormals, their spacing and the sign of zero", () => {
    const smallest = 2 ** (format.minExponent - format.fractionBits);
    expect(roundTo(smallest, dtype)).toBe(smallest);
    expect(roundTo(smallest * 1.5, dtype)).toBe(2 * smallest);
    expect(roundTo(smallest * 0.5, dtype)).toBe(0);
    expect(unitInLastPlace(smallest, format)).toBe(smallest);
    expect(unitInLastPlace(0, format)).toBe(smallest);
    expect(Object.is(decode(encode([-0], dtype), dtype)[0], -0)).toBe(true);
  });
});

describe("known encodings", () => {
  it.each([
    ["bfloat16", 1, 0x3f80],
    ["bfloat16", -2.5, 0xc020],
    ["bfloat16", 3.3895313892515355e38, 0x7f7f],
    ["float16", 1, 0x3c00],
    ["float16", 65504, 0x7bff],
    ["float16", 2 ** -24, 0x0001],
    ["float16", 65520, 0x7c00],
    ["float8_e4m3fn", 448, 0x7e],
    ["float8_e4m3fn", 1, 0x38],
    ["float8_e4m3fn", 2 ** -9, 0x01],
    ["float8_e4m3fn", Number.NaN, 0x7f],
    ["float8_e5m2", 57344, 0x7b],
    ["float8_e5m2", Infinity, 0x7c],
    ["float8_e5m2", 2 ** -16, 0x01],
  ] as const)("%s of %d is 0x%s", (dtype, value, bits) => {
    expect(smallFloatBits(value, dtype)).toBe(bits);
  });

  it("agrees with the platform's float32 and float64", () => {
    const values = [0, -0, 1 / 3, 1e-45, 3.5e38, -1e300, Number.NaN, Infinity, 2 ** 24 + 1];
    expect(decode(encode(values, "float32"), "float32")).toEqual(Float64Array.from(Float32Array.from(values)));
    expect(decode(encode(values, "float64"), "float64")).toEqual(Float64Array.from(values));
    for (const value of values) expect(roundTo(value, "float32")).toBe(Math.fround(value));
  });
});

describe("integers", () => {
  it.each([
    ["int64", [-(2 ** 53), -1, 0, 2 ** 53]],
    ["int32", [-(2 ** 31), -1, 2 ** 31 - 1]],
    ["int16", [-32768, 32767]],
    ["int8", [-128, 127]],
    ["uint8", [0, 255]],
    ["bool", [0, 1]],
  ] as const)("%s keeps its whole range", (dtype, values) => {
    expect([...decode(encode(values, dtype), dtype)]).toEqual([...values]);
  });

  it("truncates towards zero, and any non-zero number is true", () => {
    expect([...decode(encode([1.9, -1.9], "int64"), "int64")]).toEqual([1, -1]);
    expect([...decode(encode([1.9, -1.9], "int32"), "int32")]).toEqual([1, -1]);
    expect([...decode(encode([3, 0, -1], "bool"), "bool")]).toEqual([1, 0, 1]);
  });
});

describe("decode", () => {
  it("reads a part of a buffer at any alignment", () => {
    const bytes = new Uint8Array(13);
    bytes.set(encode([1, 2, 3], "float32"), 1);
    expect([...decode(bytes, "float32", 5, 2)]).toEqual([2, 3]);
    expect([...decode(bytes.subarray(1), "float32", 0, 3)]).toEqual([1, 2, 3]);
    const view = new DataView(bytes.buffer, 1);
    expect(elementReader("float32")(view, 8)).toBe(3);
  });

  it("refuses to read past the end", () => {
    expect(() => decode(new Uint8Array(7), "float32", 0, 2)).toThrow(RangeError);
    expect(decode(new Uint8Array(7), "float32").length).toBe(1);
  });

  it("knows its types by name", () => {
    for (const dtype of dtypes) expect(isDType(dtype)).toBe(true);
    expect(isDType("complex64")).toBe(false);
  });
});
