import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Cuda } from "../../../src/engine/cuda/cuda.js";
import { linear } from "../../../src/spec/ops/linear.js";
import { decode, encode } from "../../../src/tensor/dtype.js";
import { describeCuda } from "../backends.js";
import { expected, expectRounding, gatedBy, withResidual } from "../expected.js";
import { operands } from "../operands.js";
import { header, launch } from "./launching.js";

describeCuda("tensor products on CUDA", (open) => {
  let cuda: Cuda;
  beforeAll(async () => {
    cuda = await open();
  });
  afterAll(() => cuda.destroy());

  const narrowed = (values: ArrayLike<number>, dtype: "bfloat16" | "float16") => {
    const bytes = encode(values, dtype) as Uint8Array<ArrayBuffer>;
    return { bytes, values: decode(bytes, dtype) };
  };

  describe.each(["bfloat16", "float16"] as const)("in %s", (dtype) => {
    /** What every product is given; `change` adds to it. */
    function given(o: ReturnType<typeof operands>, rows: number, k: number, n: number) {
      return {
        header: header(cuda, { rows, sequences: 1 }),
        weights: cuda.upload("weights", o.bytes),
        input: cuda.upload("input", narrowed(o.input, dtype).bytes),
        bias: null,
        residual: null,
        output: cuda.buffer("output", rows * n * 4),
        narrow: null,
        columns: k,
        outputs: n,
        firstRow: 0,
        gated: 0,
        outputStride: n,
        outputOffset: 0,
      };
    }

    test.each([
      ["128x128x3", 129, 40, 131],
      ["64x128x3", 70, 264, 132],
      ["64x128x4", 65, 328, 30],
      ["64x64x4", 70, 200, 150],
      ["64x32x4", 17, 136, 36],
      ["32x32x4", 33, 72, 34],
    ])("tiles of %s with bias and residual, from a row of the matrix on", async (tile, rows, k, n) => {
      const firstRow = 5;
      const o = operands(rows, rows, k, n + firstRow, dtype);
      const values = {
        ...given(o, rows, k, n),
        firstRow,
        bias: cuda.upload("bias", o.bias),
        residual: cuda.upload("residual", o.residual),
      };
      const [height, across] = tile.split("x").map(Number) as [number, number];
      launch(cuda, "tensor-product", values, [Math.ceil(n / across), Math.ceil(rows / height)], `${dtype}_${tile}`);
      const bias = o.bias.subarray(firstRow);
      const input = narrowed(o.input, dtype).values;
      const product = expected(linear({ weight: "w", bias: "b" }), [{ columns: k, values: input }], n, {
        parameters: { w: { shape: [n, k], values: o.weights.subarray(firstRow * k) }, b: { shape: [n], values: bias } },
      });
      const observed = await cuda.readFloats(values.output, 0, rows * n);
      expectRounding(observed, withResidual(product, { bias, residual: o.residual }, n), `${rows}x${k}x${n}`);
    });

    test.each([
      ["128x128x3", 130, 32, 72],
      ["64x128x3", 20, 104, 136],
      ["64x128x4", 20, 64, 68],
      ["64x64x4", 20, 72, 36],
      ["64x32x4", 65, 64, 20],
      ["32x32x4", 34, 96, 28],
    ])("tiles of %s fused with SiLU(gate) · up, and the same in 16 bits", async (tile, rows, k, n) => {
      const o = operands(5, rows, k, 2 * n, dtype);
      const values = {
        ...given(o, rows, k, n),
        gated: 1,
        bias: cuda.upload("bias", o.bias),
        narrow: cuda.buffer("narrow", rows * n * 2),
      };
      const [height, across] = tile.split("x").map(Number) as [number, number];
      launch(
        cuda,
        "tensor-product",
        values,
        [Math.ceil((2 * n) / across), Math.ceil(rows / height)],
        `${dtype}_${tile}`,
      );
      const input = narrowed(o.input, dtype).values;
      const both = expected(linear({ weight: "w", bias: "b" }), [{ columns: k, values: input }], 2 * n, {
        parameters: { w: { shape: [2 * n, k], values: o.weights }, b: { shape: [2 * n], values: o.bias } },
      });
      const observed = await cuda.readFloats(values.output, 0, rows * n);
      expectRounding(observed, gatedBy(both), tile);
      const narrow = new Uint8Array(await cuda.read(values.narrow, 0, rows * n * 2));
      expect(narrow).toEqual(narrowed(observed, dtype).bytes);
    });
  });

  test("rows that lie apart, and outputs of which an odd number follows", async () => {
    const [rows, k, n] = [3, 24, 5];
    const o = operands(9, rows, k, n, "bfloat16");
    const output = cuda.buffer("output", rows * 9 * 4);
    const values = {
      header: header(cuda, { rows, sequences: 1 }),
      weights: cuda.upload("weights", o.bytes),
      input: cuda.upload("input", narrowed(o.input, "bfloat16").bytes),
      ...{ bias: null, residual: null, narrow: null, output },
      ...{ columns: k, outputs: n, firstRow: 0, gated: 0, outputStride: 9, outputOffset: 2 },
    };
    launch(cuda, "tensor-product", values, [1, 1], "bfloat16_64x32x4");
    const input = narrowed(o.input, "bfloat16").values;
    const parameters = { w: { shape: [n, k], values: o.weights } };
    const product = expected(linear({ weight: "w" }), [{ columns: k, values: input }], n, { parameters });
    const observed = await cuda.readFloats(output, 0, rows * 9);
    const inside = (i: number) => i % 9 >= 2 && i % 9 < 7;
    expectRounding(
      observed.filter((_, i) => inside(i)),
      product,
      "rows apart",
    );
    expect(observed.filter((_, i) => !inside(i)).every((x) => x === 0)).toBe(true);
  });
});
