import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Cuda } from "../../../src/engine/cuda/cuda.js";
import { linear } from "../../../src/spec/ops/linear.js";
import { rmsNorm } from "../../../src/spec/ops/rmsnorm.js";
import type { DType } from "../../../src/tensor/dtype.js";
import { describeCuda } from "../backends.js";
import { expected, expectRounding, gatedBy, withInputNoise, withResidual } from "../expected.js";
import { between, normals, randomNumbers } from "../gpu.js";
import { operands } from "../operands.js";
import { header, launch } from "./launching.js";

describeCuda("products on CUDA", (open) => {
  let cuda: Cuda;
  beforeAll(async () => {
    cuda = await open();
  });
  afterAll(() => cuda.destroy());

  /** What every product is given; `change` adds to it. */
  function given(o: ReturnType<typeof operands>, rows: number, k: number, n: number) {
    return {
      header: header(cuda, { rows, sequences: rows }),
      batch: null,
      weights: cuda.upload("weights", o.bytes),
      input: cuda.upload("input", o.input),
      gain: null,
      bias: null,
      residual: null,
      lse: null,
      output: cuda.buffer("output", rows * n * 4),
      columns: k,
      outputs: n,
      firstRow: 0,
      gated: 0,
      lastRows: 0,
      headDim: 8,
      outputStride: n,
      outputOffset: 0,
      epsilon: 1e-6,
    };
  }

  describe.each(["bfloat16", "float16", "float32"] as const)("weights in %s", (dtype) => {
    test.each([
      ["row-product", "1", 1, 80],
      // More columns than are in shared memory at a time.
      ["row-product", "1", 1, 3000 + 8 * 77],
      ["row-product", "2", 1, 80],
      ["row-product", "2", 1, 8000],
      ["product", "2_4", 6, 80],
      ["product", "2_8", 11, 80],
    ] as const)(
      "%s %s of %i rows with norm, bias and residual, from %i columns on",
      async (kernel, shape, rows, least) => {
        const random = randomNumbers(rows + shape.length);
        const [weightRows, inputRows] = shape.split("_").map(Number) as [number, number?];
        for (let round = 0; round < 2; round++) {
          const k = least + 8 * between(random, 0, 180);
          const n = between(random, 1, 100);
          const o = operands(round, rows, k, n, dtype);
          const values = {
            ...given(o, rows, k, n),
            gain: cuda.upload("gain", o.gain),
            bias: cuda.upload("bias", o.bias),
            residual: cuda.upload("residual", o.residual),
          };
          // A block of a row's product goes on where the grid is smaller than the weights.
          const grid = inputRows
            ? ([Math.ceil(n / weightRows / 4), Math.ceil(rows / inputRows)] as const)
            : ([Math.ceil(n / weightRows / 8 / 2)] as const);
          launch(cuda, kernel, values, grid, `${dtype}_${shape}`);
          const norm = rmsNorm({ weight: "g", epsilon: 1e-6, width: k });
          const parameters = { g: { shape: [k], values: o.gain } };
          const normed = expected(norm, [{ columns: k, values: o.input }], k, { parameters });
          const product = expected(linear({ weight: "w", bias: "b" }), [{ columns: k, values: normed.value }], n, {
            parameters: { w: { shape: [n, k], values: o.weights }, b: { shape: [n], values: o.bias } },
          });
          const noisy = withInputNoise(product, normed, o.weights, k);
          const observed = await cuda.readFloats(values.output, 0, rows * n);
          expectRounding(observed, withResidual(noisy, o, n), `${rows}x${k}x${n}`);
        }
      },
    );
  });

  test.each([9, 70])("tiles of %i rows with bias and residual, from a row of the matrix on", async (rows) => {
    const random = randomNumbers(rows);
    const k = 8 * between(random, 3, 40);
    const n = between(random, 60, 150);
    const firstRow = 5;
    const o = operands(rows, rows, k, n + firstRow, "float32");
    const values = {
      ...given(o, rows, k, n),
      firstRow,
      bias: cuda.upload("bias", o.bias),
      residual: cuda.upload("residual", o.residual),
    };
    launch(cuda, "tiles", values, [Math.ceil(n / 64), Math.ceil(rows / 64)], "float32");
    const bias = o.bias.subarray(firstRow);
    const product = expected(linear({ weight: "w", bias: "b" }), [{ columns: k, values: o.input }], n, {
      parameters: { w: { shape: [n, k], values: o.weights.subarray(firstRow * k) }, b: { shape: [n], values: bias } },
    });
    const observed = await cuda.readFloats(values.output, 0, rows * n);
    expectRounding(observed, withResidual(product, { bias, residual: o.residual }, n), `${rows}x${k}x${n}`);
  });

  test.each([
    ["row-product", "bfloat16_2", 1],
    ["product", "float16_2_4", 3],
    ["tiles", "float32", 21],
  ] as const)("%s %s fused with SiLU(gate) · up", async (name, variant, rows) => {
    const k = 104;
    const n = 77;
    const o = operands(5, rows, k, 2 * n, variant.split("_")[0] as DType);
    const values = { ...given(o, rows, k, n), gated: 1, bias: cuda.upload("bias", o.bias) };
    const grid = name === "tiles" ? [Math.ceil(n / 32), 1] : [Math.ceil(n / 4), 1];
    launch(cuda, name, values, grid as [number, number], variant);
    const both = expected(linear({ weight: "w", bias: "b" }), [{ columns: k, values: o.input }], 2 * n, {
      parameters: { w: { shape: [2 * n, k], values: o.weights }, b: { shape: [2 * n], values: o.bias } },
    });
    const observed = await cuda.readFloats(values.output, 0, rows * n);
    expectRounding(observed, gatedBy(both), name);
  });

  test("the last row of every sequence alone, into rows that lie apart", async () => {
    const k = 40;
    const n = 5;
    const o = operands(9, 6, k, n, "float32");
    const values = {
      ...given(o, 6, k, n),
      header: header(cuda, { rows: 6, sequences: 3, qoIndptrAt: 2 }),
      batch: cuda.upload("batch", Int32Array.of(-1, -1, 0, 1, 4, 6)),
      lastRows: 1,
      outputStride: 8,
      outputOffset: 2,
    };
    launch(cuda, "product", values, [1, 1], "float32_2_4");
    const rows = Float32Array.from([0, 3, 5].flatMap((row) => [...o.input.subarray(row * k, row * k + k)]));
    const parameters = { w: { shape: [n, k], values: o.weights } };
    const product = expected(linear({ weight: "w" }), [{ columns: k, values: rows }], n, { parameters });
    const observed = await cuda.readFloats(values.output, 0, 24);
    const inside = (i: number) => i % 8 >= 2 && i % 8 < 7;
    expectRounding(
      observed.filter((_, i) => inside(i)),
      product,
      "last rows",
    );
    expect(observed.filter((_, i) => !inside(i)).every((x) => x === 0)).toBe(true);
  });

  test("states of split attention are merged on the way, those without keys left out", async () => {
    const [heads, splits, headDim, n] = [3, 5, 16, 9];
    const k = heads * headDim;
    const o = operands(4, 1, k, n, "bfloat16");
    const random = randomNumbers(6);
    const states = normals(random, heads * splits * headDim);
    const logs = normals(random, heads * splits, 3);
    logs[1] = -3e38;
    // A head that sees no key at all.
    logs.fill(-3e38, splits, 2 * splits);
    const values = {
      ...given(o, 1, k, n),
      header: header(cuda, { rows: 1, sequences: 1, splitCount: splits }),
      input: cuda.upload("states", states),
      lse: cuda.upload("lse", logs),
      headDim,
    };
    launch(cuda, "row-product", values, [Math.ceil(n / 8)], "bfloat16_merge");
    const merged = Float64Array.from({ length: k }, (_, i) => {
      const head = Math.floor(i / headDim);
      let [sum, total] = [0, 0];
      for (let s = 0; s < splits; s++) {
        const log = logs[head * splits + s]!;
        const weight = log < -1e37 ? 0 : 2 ** log;
        total += weight;
        sum += weight * states[(head * splits + s) * headDim + (i % headDim)]!;
      }
      return total === 0 ? 0 : sum / total;
    });
    const observed = await cuda.readFloats(values.output, 0, n);
    for (let row = 0; row < n; row++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += o.weights[row * k + i]! * merged[i]!;
      expect(observed[row]).toBeCloseTo(sum, 5);
    }
  });
});
