import { afterEach, describe, expect, it, vi } from "vitest";
import { compileSource } from "../../scripts/build-simd.mjs";
import { type PartialSum, PartialSums, type UncertainRows } from "../../src/tensor/partial-sums.js";
import { partialSumsModule } from "../../src/tensor/partial-sums-module.js";
import { randomNumbers } from "../engine/gpu.js";

const random = randomNumbers(5);
const numbers = (count: number, scale = 1) => Float64Array.from({ length: count }, () => (random() - 0.5) * scale);

/** The definition, written out. */
function expected(x: UncertainRows, from: number, w: Float64Array, wStart: number, n: number): PartialSum {
  const out = { sum: 0, squares: 0, partials: 0, partialSquares: 0, largest: 0, small: 0, reaching: 0, jump: 0 };
  for (let k = 0; k < n; k++) {
    const weight = w[wStart + k]!;
    const term = weight * x.value[from + k]!;
    out.sum += term;
    const size = Math.abs(out.sum);
    if (size > out.largest) out.largest = size;
    if (Math.abs(term) < 2 ** -18 * size) out.small++;
    out.squares += term * term;
    out.partials += out.sum;
    out.partialSquares += out.sum * out.sum;
    const variance = x.range?.[from + k] ? Infinity : x.variance[from + k]!;
    if (variance !== 0 && weight !== 0) out.reaching += weight * weight * variance;
    if (x.jump) out.jump = Math.max(out.jump, Math.abs(weight) * x.jump[from + k]!);
  }
  return out;
}

const rows = 5;
const inputs = 37;
const value = numbers(rows * inputs).map((v, i) => (i % 7 === 3 ? v * 1e-7 : v));
const variance = numbers(rows * inputs).map((v, i) => (i % 3 === 0 ? 0 : v * v));
const jump = numbers(rows * inputs).map((v, i) => (i % 4 === 0 ? 0 : Math.abs(v)));
const range = Uint8Array.from({ length: rows * inputs }, (_, i) => (i === 50 || i === 80 ? 2 : 0));
const w = numbers(3 * inputs).map((v, i) => (i % 5 === 0 ? 0 : v));

describe("sums of products are bit for bit those of one term after the other", () => {
  const none = new Float64Array(rows * inputs);
  it.each<[string, UncertainRows]>([
    ["of certain rows", { value, variance: none }],
    ["of rows with variances", { value, variance }],
    ["with single errors that stand out", { value, variance, jump }],
    ["with elements out of range", { value, variance: none, range }],
    ["of numbers that are none", { value: value.map((v, i) => (i === 40 ? NaN : i === 90 ? Infinity : v)), variance }],
  ])("%s", (_, x) => {
    const sums = new PartialSums();
    for (const bounds of [
      [0, inputs],
      [0, 16, 32, inputs],
      [0, 0, inputs],
    ]) {
      for (const [first, count] of [
        [0, rows],
        [1, 2],
        [4, 1],
      ] as const) {
        sums.place(x, first, count, inputs);
        for (const start of [0, 2 * inputs]) {
          sums.multiply(w, start, bounds);
          for (let p = 0; p + 1 < bounds.length; p++) {
            for (let r = 0; r < count; r++) {
              const from = (first + r) * inputs + bounds[p]!;
              expect(sums.part(p, r)).toEqual(expected(x, from, w, start + bounds[p]!, bounds[p + 1]! - bounds[p]!));
            }
          }
        }
      }
    }
  });

  it("of more rows than are placed at a time, in whole fours", () => {
    expect(PartialSums.rowsTogether(4096) % 4).toBe(0);
    expect(PartialSums.rowsTogether(2 ** 30)).toBe(4);
  });
});

describe("the compiled module", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("is that of the source beside it", async () => {
    expect(Buffer.from(await compileSource("partial-sums")).toString("base64")).toBe(partialSumsModule);
  });

  it("is refused in one sentence where there is no SIMD", () => {
    vi.stubGlobal("WebAssembly", { ...WebAssembly, validate: () => false });
    expect(() => new PartialSums()).toThrow("need WebAssembly with SIMD");
    vi.stubGlobal("WebAssembly", undefined);
    expect(() => new PartialSums()).toThrow("need WebAssembly with SIMD");
  });
});
