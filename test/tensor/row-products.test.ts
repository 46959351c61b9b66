import { describe, expect, it, vi } from "vitest";
import { RowProducts } from "../../src/tensor/row-products.js";
import { randomNumbers } from "../engine/gpu.js";

const random = randomNumbers(6);
const numbers = (count: number) => Float64Array.from({ length: count }, () => random() - 0.5);

describe("products of rows are bit for bit those of one term after the other", () => {
  const products = new RowProducts();
  it.each([
    [1, 1],
    [2, 37],
    [7, 64],
    [8, 37],
    [17, 129],
    [33, 5],
  ])("%i rows of %i inputs", (rows, inputs) => {
    const x = numbers(rows * inputs);
    const w = numbers(3 * inputs);
    x[inputs - 1] = Number.NaN;
    products.place(x, rows, inputs);
    for (const start of [0, 2 * inputs]) {
      const values = new Float64Array(2 * rows + 1).fill(7);
      products.multiply(w, start, { values, at: 1, stride: 2 });
      for (let r = 0; r < rows; r++) {
        let sum = 0;
        for (let k = 0; k < inputs; k++) sum += w[start + k]! * x[r * inputs + k]!;
        expect(values[1 + 2 * r]).toBe(sum);
        expect(values[2 * r]).toBe(7);
      }
    }
  });

  it("of no inputs are zeros, and rows placed before are gone", () => {
    products.place(numbers(4), 2, 2);
    products.place(new Float64Array(0), 3, 0);
    const values = new Float64Array(4).fill(7);
    products.multiply(new Float64Array(0), 0, { values, at: 0, stride: 1 });
    expect([...values]).toEqual([0, 0, 0, 7]);
  });

  it("take as many rows at a time as their memory has room for, and two of the longest", () => {
    expect(RowProducts.rowsTogether(1024)).toBe(1024);
    expect(RowProducts.rowsTogether(2 ** 24)).toBe(2);
    expect(RowProducts.rowsTogether(0)).toBeGreaterThan(1000);
  });

  it("need WebAssembly with SIMD", () => {
    vi.stubGlobal("WebAssembly", undefined);
    expect(() => new RowProducts()).toThrow("WebAssembly with SIMD");
    vi.unstubAllGlobals();
  });
});
