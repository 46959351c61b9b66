import { afterAll, beforeAll, expect, test } from "vitest";
import type { Gpu } from "../../src/engine/webgpu/gpu.js";
import { kernel } from "../../src/engine/webgpu/kernels.js";
import { activation } from "../../src/spec/ops/activation.js";
import { rmsNorm } from "../../src/spec/ops/rmsnorm.js";
import { rope } from "../../src/spec/ops/rope.js";
import { decode, encode } from "../../src/tensor/dtype.js";
import { expected, expectRounding } from "./expected.js";
import { dispatch, header, normals, openTestDevice, randomNumbers } from "./gpu.js";

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openTestDevice();
});
afterAll(() => gpu.destroy());

test("embedding copies rows exactly, in each type", async () => {
  const random = randomNumbers(4);
  for (const [format, dtype] of ["bfloat16", "float16", "float32"].entries()) {
    const bytes = encode(normals(random, 7 * 40), dtype as "float32") as Uint8Array<ArrayBuffer>;
    const table = decode(bytes, dtype as "float32");
    const output = gpu.buffer("output", 3 * 40 * 4);
    const embedding = await kernel(gpu, "embedding", { K: 40, VOCABULARY: 7, WEIGHT_FORMAT: format });
    const batch = gpu.upload("batch", Int32Array.of(6, 0, 3));
    await dispatch(
      gpu,
      embedding,
      { header: header(gpu, { rows: 3 }), weights: gpu.upload("w", bytes), batch, output },
      [1, 3],
    );
    const rows = [6, 0, 3].flatMap((token) => [...table.subarray(token * 40, token * 40 + 40)]);
    expect([...(await gpu.readFloats(output, 0, 120))]).toEqual(rows);
  }
});

test("rmsnorm over heads of a packed row", async () => {
  const random = randomNumbers(5);
  const x = normals(random, 3 * 90, 4);
  const gain = normals(random, 24);
  const output = gpu.buffer("output", 3 * 48 * 4);
  const norm = await kernel(gpu, "rmsnorm", { WIDTH: 24, INPUT_STRIDE: 90, INPUT_OFFSET: 10, OUTPUT_STRIDE: 48 });
  const operands = { input: gpu.upload("x", x), gain: gpu.upload("g", gain), output };
  await dispatch(gpu, norm, operands, [2, 3]);
  const packed = Float32Array.from({ length: 3 * 48 }, (_, i) => x[Math.floor(i / 48) * 90 + 10 + (i % 48)]!);
  const op = rmsNorm({ weight: "g", epsilon: 1e-6, width: 24 });
  const parameters = { g: { shape: [24], values: gain } };
  expectRounding(
    await gpu.readFloats(output, 0, 144),
    expected(op, [{ columns: 48, values: packed }], 48, { parameters }),
    "rmsnorm",
  );
});

test("rope at large positions", async () => {
  const headDim = 16;
  const inverseFrequencies = Float64Array.from({ length: 8 }, (_, j) => 1e4 ** (-j / 8));
  const positions = 3000;
  const angles = new Float32Array(positions * 16);
  for (let p = 0; p < positions; p++) {
    for (let j = 0; j < 8; j++)
      angles.set([Math.cos(p * inverseFrequencies[j]!), Math.sin(p * inverseFrequencies[j]!)], (p * 8 + j) * 2);
  }
  const x = normals(randomNumbers(6), positions * 32);
  const output = gpu.buffer("output", x.byteLength);
  const program = await kernel(gpu, "rope", { HEADS: 2, HEAD_DIM: headDim, ROTARY: headDim, INPUT_STRIDE: 32 });
  const batch = gpu.upload(
    "batch",
    Int32Array.from({ length: positions }, (_, i) => i),
  );
  const operands = {
    header: header(gpu, { rows: positions }),
    input: gpu.upload("x", x),
    batch,
    angles: gpu.upload("a", angles),
    output,
  };
  await dispatch(gpu, program, operands, [1, positions]);
  const op = rope({ headDim, rotaryDim: headDim, inverseFrequencies, attentionFactor: 1, pairing: "half" });
  expectRounding(await gpu.readFloats(output, 0, x.length), expected(op, [{ columns: 32, values: x }], 32), "rope");
});

test("silu over its whole range", async () => {
  const x = Float32Array.from({ length: 402 }, (_, i) => (i - 201) / 2);
  const output = gpu.buffer("output", x.byteLength);
  const silu = await kernel(gpu, "elementwise", { OPERATION: 0, COLUMNS: 134, FIRST_STRIDE: 134 });
  await dispatch(gpu, silu, { header: header(gpu, { rows: 3 }), first: gpu.upload("x", x), output }, [2, 3]);
  const observed = (await gpu.readFloats(output, 0, 402)).map((y, i) => (x[i]! < -75 ? 0 : y));
  const expectation = expected(activation("silu"), [{ columns: 134, values: x }], 134);
  expectRounding(observed, { ...expectation, value: expectation.value.map((y, i) => (x[i]! < -75 ? 0 : y)) }, "silu");
});
