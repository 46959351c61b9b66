import { describe, expect, it } from "vitest";
import { compileSource } from "../../scripts/build-simd.mjs";
import { exactArithmetic } from "../../src/spec/arithmetic.js";
import { blockResiduals, rootMeanSquare } from "../../src/tensor/block-residuals.js";
import { Decoder, elementReader, floatFormat, tf32Format, unitInLastPlace } from "../../src/tensor/dtype.js";
import { elementMemory, mostPlaced } from "../../src/tensor/element-memory.js";
import { elementsModule } from "../../src/tensor/elements-module.js";
import { roundAll, roundToFormat } from "../../src/tensor/rounding.js";
import { copied, kept, withScratch } from "../../src/tensor/scratch.js";
import { addWeightedInPlace, dotsInPlace } from "../../src/tensor/spaced-rows.js";
import { tallyOf } from "../../src/tensor/tally.js";

let state = 3;
function random(): number {
  state = (Math.imul(state, 1664525) + 1013904223) | 0;
  return (state >>> 0) / 2 ** 32;
}

/** Numbers of any size a float64 has, and of usual sizes. */
function numbers(count: number): Float64Array {
  const bits = Uint32Array.from({ length: 2 * count }, () => random() * 2 ** 32);
  const any = new Float64Array(bits.buffer);
  return any.map((x, i) => (i % 3 === 0 ? x : (random() - 0.5) * 2 ** Math.floor(random() * 40 - 20)));
}

/** What `work` does to a copy, where kernels work on it in place, and where they are given parts of it. */
function bothWays(values: Float64Array, work: (copy: Float64Array) => void): [Float64Array, Float64Array] {
  const elsewhere = values.slice();
  const inPlace = withScratch(() => {
    copied(new Float64Array(1));
    const copy = copied(values);
    expect(elementMemory().holds(copy)).toBe(true);
    work(copy);
    work(elsewhere);
    return kept(copy);
  });
  return [inPlace, elsewhere];
}

const many = 2 * mostPlaced + 77;

describe("kernels over elements", () => {
  it("are what their source says", async () => {
    expect(Buffer.from(await compileSource("elements")).toString("base64")).toBe(elementsModule);
  });

  it.each([
    ["bfloat16", floatFormat("bfloat16")!],
    ["float16", floatFormat("float16")!],
    ["float8_e4m3fn", floatFormat("float8_e4m3fn")!],
    ["float8_e5m2", floatFormat("float8_e5m2")!],
    ["TF32", tf32Format],
  ])("round to %s as numbers are rounded one by one", (_, format) => {
    const { max } = format;
    const edges = [0, -0, Infinity, -Infinity, Number.NaN, max, -max, max * 1.01, -max * 1.2, Number.MAX_VALUE, 5e-324];
    const values = Float64Array.from([...edges, ...numbers(many)]);
    const expected = values.slice();
    for (let i = 0; i < values.length; i++) roundToFormat(expected, format, i, i + 1);
    for (const rounded of bothWays(values, (copy) => roundToFormat(copy, format)))
      expect(rounded.findIndex((x, i) => !Object.is(x, expected[i]))).toBe(-1);
    for (const part of bothWays(values, (copy) => roundToFormat(copy, format, 5, 5 + 201)))
      expect(part.findIndex((x, i) => !Object.is(x, i >= 5 && i < 206 ? expected[i] : values[i]))).toBe(-1);
  });

  it("decode every bfloat16, and nothing beyond what was asked for", () => {
    const words = Uint16Array.from({ length: 2 ** 16 }, (_, i) => i);
    const read = elementReader("bfloat16");
    const view = new DataView(words.buffer);
    for (const [first, count] of [
      [0, 2 ** 16],
      [3, 70],
      [16000, mostPlaced + 65],
    ] as const)
      for (const out of bothWays(new Float64Array(count + 9).fill(-7), (copy) =>
        new Decoder(new Uint8Array(words.buffer), "bfloat16").into(first, count, 1, copy, 4),
      ))
        expect(
          out.findIndex((x, i) => !Object.is(x, i < 4 || i >= 4 + count ? -7 : read(view, 2 * (first + i - 4)))),
        ).toBe(-1);
  });
});

describe("rows that lie apart", () => {
  const values = Float64Array.from({ length: 12 * 40 }, () => random() - 0.5);
  values.set([Number.NaN, Infinity], 5 * 40 + 3);
  const a = Float64Array.from({ length: 36 }, () => random() - 0.5);
  const weights = Float64Array.from([0.5, 0, 0, 0.25, 1e-9, 0, 3, 0.1]);
  const rowOf = (j: number, length: number) => values.subarray(2 + j * 40, 2 + j * 40 + length);

  it.each([8, 24, 32, 7])("are multiplied with one row of %d numbers, and added up by weights", (length) => {
    const rows = { values, first: 2, stride: 40, count: 7, length };
    const dots = Float64Array.from({ length: 8 }, (_, j) => (j < 7 ? dotOf(a.subarray(3), rowOf(j, length)) : -7));
    const sum = Float64Array.from({ length: 40 }, (_, i) => {
      let total = i;
      for (let j = 0; j < 7; j++) if (i < length && weights[j] !== 0) total += weights[j]! * rowOf(j, length)[i]!;
      return total;
    });
    expect(dots.subarray(0, 3).every(Number.isFinite)).toBe(true);
    withScratch(() => {
      const here = { ...rows, values: copied(values) };
      const out = new Float64Array(8).fill(-7);
      expect(dotsInPlace(a, 3, here, out)).toBe(length % 4 === 0);
      if (length % 4 === 0) expect(out).toEqual(dots);
      const added = copied(Float64Array.from({ length: 40 }, (_, i) => i));
      expect(addWeightedInPlace(weights, here, added, 0)).toBe(length % 8 === 0);
      if (length % 8 === 0) expect([...added]).toEqual([...sum]);
      exactArithmetic.dots(a, 3, here, out);
      expect(out).toEqual(dots);
      exactArithmetic.dots(a, 3, rows, out.fill(-7));
      expect(out).toEqual(dots);
    });
  });

  it("that lie elsewhere are left to others", () => {
    const rows = { values, first: 2, stride: 40, count: 7, length: 8 };
    expect(dotsInPlace(a, 3, rows, new Float64Array(7))).toBe(false);
    withScratch(() => {
      const here = { ...rows, values: copied(values) };
      expect(addWeightedInPlace(weights, here, new Float64Array(8), 0)).toBe(false);
      expect(addWeightedInPlace(weights, rows, copied(a), 0)).toBe(false);
    });
  });
});

function dotOf(x: Float64Array, y: Float64Array): number {
  return exactArithmetic.dot(x, 0, y, 0, y.length);
}

describe("a tally", () => {
  it.each(["bfloat16", "float16", "float32", "float64"] as const)(
    "counts what is equal in %s, and lists the others",
    (dtype) => {
      const format = floatFormat(dtype)!;
      const value = numbers(many);
      value.set([Infinity, Number.NaN, 0, 1, Number.NaN, -Infinity]);
      const expected = value.slice();
      roundAll(expected, dtype);
      const observed = expected.map((x, i) => (i % 50 === 7 ? x * 1.5 + 1 : i % 91 === 3 ? Number.NaN : x));
      observed[5] = 3;
      let equal = 0;
      let squares = 0;
      let maxZ = 0;
      const others: number[] = [];
      for (const [i, seen] of observed.entries()) {
        const exact = value[i]!;
        if (seen === expected[i]) {
          equal++;
          if (seen === exact) continue;
          const z = (Math.abs(seen - exact) * Math.sqrt(12)) / unitInLastPlace(exact, format);
          squares += z * z;
          maxZ = Math.max(maxZ, z);
        } else if (Number.isFinite(exact)) others.push(i);
      }
      expect(others.length).toBeGreaterThan(100);
      const found = { equal, squares, maxZ, others };
      expect(tallyOf(value, expected, observed, format)).toEqual(found);
      withScratch(() => {
        const here = [copied(value), copied(expected), copied(observed)] as const;
        expect(tallyOf(...here, format)).toEqual(found);
      });
    },
  );

  it("of nothing counts nothing", () => {
    const none = new Float64Array(0);
    expect(tallyOf(none, none, none, floatFormat("bfloat16")!)).toEqual({ equal: 0, squares: 0, maxZ: 0, others: [] });
  });
});

describe("residuals over blocks of columns", () => {
  const format = floatFormat("bfloat16")!;

  /** As the definition says. */
  function defined(
    y: Float64Array,
    signs: Int8Array,
    width: number,
    biases: Float64Array | undefined,
    sums: Float64Array,
  ) {
    return sums.map((sum, b) => {
      let residual = -sum;
      let variance = 0;
      const end = Math.min(y.length, (b + 1) * width);
      for (let c = b * width; c < end; c++) if (biases) residual -= signs[c]! * biases[c]!;
      for (let c = b * width; c < end; c++) residual += signs[c]! * y[c]!;
      for (let c = b * width; c < end; c++) variance += Math.max(1e-12, unitInLastPlace(y[c]!, format) ** 2);
      if (!Number.isFinite(residual)) return Number.isFinite(sum) ? Infinity : 0;
      return residual === 0 ? 0 : Math.abs(residual) / Math.sqrt(variance / 12);
    });
  }

  it.each([
    [8, 8 * 900],
    [8, 8 * 700 + 3],
    [mostPlaced, 2 * mostPlaced + 5],
    [24, 7],
  ])("of %d columns are what they are defined as, for %d columns", (width, columns) => {
    const y = Float64Array.from({ length: columns }, () => random() * 8 - 4);
    roundAll(y, "bfloat16");
    const signs = Int8Array.from(y, () => (random() < 0.5 ? -1 : 1));
    const biases = y.map(() => random());
    const sums = Float64Array.from({ length: Math.ceil(columns / width) }, () => random() * 10);
    // Only the record is not finite, and the product too.
    if (columns > 5000) {
      y.set([Infinity, 1e-40, 0], width);
      sums[0] = Number.NaN;
    }
    for (const bias of [undefined, biases]) {
      const expected = defined(y, signs, width, bias, sums);
      const z = bothWays(new Float64Array(sums.length), (out) =>
        blockResiduals(y, { signs, width, biases: bias }, sums, format, 1e-12, out),
      );
      expect(z).toEqual([expected, expected]);
      withScratch(() => {
        const out = copied(expected).fill(0);
        blockResiduals(copied(y), { signs, width, biases: bias && copied(bias) }, copied(sums), format, 1e-12, out);
        expect([...out]).toEqual([...expected]);
      });
    }
  });

  it("are measured against a row's size, of what is finite in it", () => {
    const y = Float64Array.from({ length: mostPlaced + 9 }, (_, i) => (i === 3 ? Number.NaN : i === 5 ? -Infinity : 2));
    expect(rootMeanSquare(y)).toBeCloseTo(2 * Math.sqrt((y.length - 2) / y.length), 12);
  });
});
