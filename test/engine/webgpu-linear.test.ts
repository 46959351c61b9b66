import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { formatOf } from "../../src/engine/device/element-format.js";
import type { Gpu } from "../../src/engine/webgpu/gpu.js";
import { kernel } from "../../src/engine/webgpu/kernels.js";
import { linear } from "../../src/spec/ops/linear.js";
import { rmsNorm } from "../../src/spec/ops/rmsnorm.js";
import type { DType } from "../../src/tensor/dtype.js";
import { expected, expectRounding, gatedBy, statisticsFor, withInputNoise, withResidual } from "./expected.js";
import { between, dispatch, header, openTestDevice, randomNumbers } from "./gpu.js";
import { operands } from "./operands.js";

const dtypes: DType[] = ["bfloat16", "float16", "float32"];

/** The variants of the sums: with subgroups where the device has them, loops unrolled as on a real GPU; and portable. */
describe.each(["subgroups", "portable"])("linear kernels, %s", (variant) => {
  let gpu: Gpu;
  beforeAll(async () => {
    gpu = await openTestDevice(
      variant === "portable" ? { without: ["subgroups", "matrix"], unroll: false } : { unroll: true },
    );
    expect(gpu.features.has("subgroups")).toBe(variant === "subgroups");
  });
  afterAll(() => gpu.destroy());

  describe.each(dtypes)("weights in %s", (dtype) => {
    test.each([1, 2, 3])("gemv with norm, bias and residual, shape %i", async (seed) => {
      const random = randomNumbers(seed);
      const rows = between(random, 1, 7);
      const k = 8 * between(random, 3, 190);
      const n = between(random, 1, 300);
      const o = operands(seed, rows, k, n, dtype);
      const columns = 4;
      const gemv = await kernel(gpu, "gemv", {
        K: k,
        N: n,
        COLUMNS: columns,
        WEIGHT_FORMAT: formatOf(dtype, "weights"),
        NORM: true,
        BIAS: true,
        RESIDUAL: true,
        OUTPUT_STRIDE: n,
      });
      const output = gpu.buffer("output", rows * n * 4);
      await dispatch(
        gpu,
        gemv,
        {
          header: header(gpu, { rows }),
          weights: gpu.upload("weights", o.bytes),
          input: gpu.upload("input", o.input),
          gain: gpu.upload("gain", o.gain),
          bias: gpu.upload("bias", o.bias),
          residual: gpu.upload("residual", o.residual),
          output,
        },
        [Math.ceil(n / 4), Math.ceil(rows / columns)],
      );
      const normed = expected(rmsNorm({ weight: "g", epsilon: 1e-6, width: k }), [{ columns: k, values: o.input }], k, {
        parameters: { g: { shape: [k], values: o.gain } },
      });
      const product = withInputNoise(
        expected(linear({ weight: "w", bias: "b" }), [{ columns: k, values: normed.value }], n, {
          parameters: { w: { shape: [n, k], values: o.weights }, b: { shape: [n], values: o.bias } },
        }),
        normed,
        o.weights,
        k,
      );
      expectRounding(await gpu.readFloats(output, 0, rows * n), withResidual(product, o, n), `gemv ${rows}x${k}x${n}`);
    });

    test.each([1, 2])("gemm with bias and residual, shape %i", async (seed) => {
      const random = randomNumbers(seed + 10);
      const rows = between(random, 9, 150);
      const k = 8 * between(random, 3, 40);
      const n = between(random, 1, 200);
      const o = operands(seed, rows, k, n, dtype);
      const gemm = await kernel(gpu, "gemm", {
        K: k,
        N: n,
        WEIGHT_FORMAT: formatOf(dtype, "weights"),
        BIAS: true,
        RESIDUAL: true,
        INPUT_STRIDE: k,
        OUTPUT_STRIDE: n,
      });
      const output = gpu.buffer("output", rows * n * 4);
      await dispatch(
        gpu,
        gemm,
        {
          header: header(gpu, { rows }),
          weights: gpu.upload("weights", o.bytes),
          input: gpu.upload("input", o.input),
          bias: gpu.upload("bias", o.bias),
          residual: gpu.upload("residual", o.residual),
          output,
        },
        [Math.ceil(n / 64), Math.ceil(rows / 64)],
      );
      const product = expected(linear({ weight: "w", bias: "b" }), [{ columns: k, values: o.input }], n, {
        parameters: { w: { shape: [n, k], values: o.weights }, b: { shape: [n], values: o.bias } },
      });
      expectRounding(await gpu.readFloats(output, 0, rows * n), withResidual(product, o, n), `gemm ${rows}x${k}x${n}`);
    });
  });

  test.each([
    ["gemv", 3],
    ["gemm", 21],
  ] as const)("%s fused with SiLU(gate) · up", async (name, rows) => {
    const k = 104;
    const n = 77;
    const o = operands(5, rows, k, 2 * n, "bfloat16");
    const constants = { K: k, N: n, WEIGHT_FORMAT: 0, GATED: true, OUTPUT_STRIDE: n };
    const program = await kernel(
      gpu,
      name,
      name === "gemv" ? { ...constants, COLUMNS: 2, ROWS: 4 } : { ...constants, INPUT_STRIDE: k },
    );
    const output = gpu.buffer("output", rows * n * 4);
    await dispatch(
      gpu,
      program,
      {
        header: header(gpu, { rows }),
        weights: gpu.upload("weights", o.bytes),
        input: gpu.upload("input", o.input),
        output,
      },
      name === "gemv" ? [Math.ceil(n / 2), Math.ceil(rows / 2)] : [Math.ceil(n / 32), Math.ceil(rows / 64)],
    );
    const both = expected(linear({ weight: "w" }), [{ columns: k, values: o.input }], 2 * n, {
      parameters: { w: { shape: [2 * n, k], values: o.weights } },
    });
    expectRounding(await gpu.readFloats(output, 0, rows * n), gatedBy(both), name);
  });

  test("a fault of a thousandth is not rounding", async () => {
    const o = operands(3, 2, 64, 40, "float32");
    const product = expected(linear({ weight: "w" }), [{ columns: 64, values: o.input }], 40, {
      parameters: { w: { shape: [40, 64], values: o.weights } },
    });
    expect(
      statisticsFor(
        product.value.map((v) => v * 1.001),
        product,
      ).rmsZ,
    ).toBeGreaterThan(50);
  });
});
