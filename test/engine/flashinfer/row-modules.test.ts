import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { BatchDecodeWithPagedKVCache } from "../../../src/engine/attention/wrapper.js";
import type { Cuda } from "../../../src/engine/cuda/cuda.js";
import type { CudaBuffer } from "../../../src/engine/cuda/memory.js";
import type { FlashInfer } from "../../../src/engine/flashinfer/flashinfer.js";
import type { Operand } from "../../../src/engine/flashinfer/operands.js";
import { rmsNorm } from "../../../src/spec/ops/rmsnorm.js";
import { rope } from "../../../src/spec/ops/rope.js";
import { decode, encode } from "../../../src/tensor/dtype.js";
import { openTestFlashInfer } from "../backends.js";
import { expected, expectRounding } from "../expected.js";
import { normals, randomNumbers } from "../gpu.js";

const whenFound = openTestFlashInfer
  ? describe
  : () => console.warn("no C++ compiler was found: FlashInfer is not tested");
whenFound("FlashInfer's page, norm and rope modules", () => {
  let cuda: Cuda;
  let flashinfer: FlashInfer;
  beforeAll(async () => {
    cuda = await openTestFlashInfer!();
    flashinfer = cuda.library as FlashInfer;
  });
  afterAll(() => cuda.destroy());

  const numbers = (values: ArrayLike<number>) => decode(encode(values, "bfloat16"), "bfloat16");
  const operand = (values: ArrayLike<number>, shape: number[]): Operand => ({
    buffer: cuda.upload("tensor", encode(values, "bfloat16") as Uint8Array<ArrayBuffer>),
    dtype: "bfloat16",
    shape,
  });
  const list = (...values: number[]): Operand => ({
    buffer: cuda.upload("list", Int32Array.from(values)),
    dtype: "int32",
    shape: [values.length],
  });
  const read = async ({ buffer }: Operand, count: number) =>
    decode(new Uint8Array(await cuda.read(buffer as CudaBuffer, 0, count * 2)), "bfloat16");
  const bf16 = { precision: { store: "bfloat16", compute: "float32" } } as const;

  test("append puts rows where the page table says, and decode finds them there", async () => {
    const random = randomNumbers(21);
    const pages = [4, 8, 2, 64];
    const [keys, values] = [0, 1].map(() => operand(new Float32Array(4 * 8 * 2 * 64), pages)) as [Operand, Operand];
    const rows = numbers(normals(random, 9 * 2 * 64));
    const table = { indptr: list(0, 2), indices: list(3, 1), lastPageLen: list(1) };
    const positions = Array.from({ length: 9 }, (_, i) => i);
    flashinfer.page().append({
      key: operand(rows, [9, 2, 64]),
      value: operand(rows, [9, 2, 64]),
      batchIndices: list(...positions.map(() => 0)),
      positions: list(...positions),
      keys,
      values,
      layout: "NHD",
      ...table,
    });
    const stored = await read(keys, 4 * 8 * 2 * 64);
    expect([...stored.subarray(3 * 1024, 4 * 1024)]).toEqual([...rows.subarray(0, 1024)]);
    expect([...stored.subarray(1024, 1024 + 128)]).toEqual([...rows.subarray(1024)]);
    expect(stored.subarray(1024 + 128, 3 * 1024).every((x) => x === 0)).toBe(true);
    const attention = new BatchDecodeWithPagedKVCache(cuda);
    const plan = {
      heads: 4,
      kvHeads: 2,
      headDim: 64,
      queryDtype: "bfloat16",
      kvDtype: "bfloat16",
      pageSize: 8,
    } as const;
    const host = { indptr: Int32Array.of(0, 2), indices: Int32Array.of(3, 1), lastPageLen: Int32Array.of(1) };
    attention.plan({ ...plan, ...host });
    const { output } = await attention.run(
      operand(new Float32Array(256), [1, 4, 64]) as never,
      [keys, values] as never,
    );
    // Queries of zeros weigh every key alike.
    const found = await cuda.readFloats(output as CudaBuffer, 0, 64);
    const mean = Array.from({ length: 64 }, (_, i) => positions.reduce((sum, p) => sum + rows[p * 128 + i]!, 0) / 9);
    expect([...found]).toEqual([...numbers(Float32Array.from(mean))]);
  });

  test("rmsnorm, and rmsnorm of a sum that it leaves as the residual", async () => {
    const random = randomNumbers(22);
    const [rows, columns] = [5, 256];
    const [x, residual] = [0, 1].map(() => numbers(normals(random, rows * columns, 3)));
    const gain = numbers(normals(random, columns));
    const weight = operand(gain, [columns]);
    const op = rmsNorm({ weight: "g", epsilon: 1e-6, width: columns });
    const parameters = { g: { shape: [columns], values: gain } };
    const output = operand(new Float32Array(rows * columns), [rows, columns]);
    const norm = flashinfer.norm();
    norm.rmsnorm(output, operand(x!, [rows, columns]), weight, 1e-6);
    const meant = expected(op, [{ columns, values: x! }], columns, { parameters, ...bf16 });
    expectRounding(await read(output, rows * columns), meant, "rmsnorm");
    const input = operand(x!, [rows, columns]);
    const stream = operand(residual!, [rows, columns]);
    norm.fusedAddRmsnorm(input, stream, weight, 1e-6);
    const sum = x!.map((a, i) => a + residual![i]!);
    expect([...(await read(stream, rows * columns))]).toEqual([...numbers(sum)]);
    const ofSum = expected(op, [{ columns, values: sum }], columns, { parameters, ...bf16 });
    expectRounding(await read(input, rows * columns), ofSum, "fused_add_rmsnorm");
  });

  test("rope of queries and keys at small positions", async () => {
    const headDim = 64;
    const rows = 12;
    const [q, k] = [2, 1].map((heads) => numbers(normals(randomNumbers(20 + heads), rows * heads * headDim)));
    const query = operand(q!, [rows, 2, headDim]);
    const key = operand(k!, [rows, 1, headDim]);
    const rotatedQuery = operand(new Float32Array(q!.length), [rows, 2, headDim]);
    const rotatedKey = operand(new Float32Array(k!.length), [rows, 1, headDim]);
    const positions = list(...Array.from({ length: rows }, (_, i) => i));
    const turning = { rotaryDim: headDim, interleaved: false, scale: 1, theta: 1e4 };
    flashinfer.rope().apply({ query, key, rotatedQuery, rotatedKey, positions, ...turning });
    const inverseFrequencies = Float64Array.from({ length: headDim / 2 }, (_, j) => 1e4 ** ((-2 * j) / headDim));
    const op = rope({ headDim, rotaryDim: headDim, inverseFrequencies, attentionFactor: 1, pairing: "half" });
    for (const [rotated, x, columns] of [
      [rotatedQuery, q!, 2 * headDim],
      [rotatedKey, k!, headDim],
    ] as const) {
      const meant = expected(op, [{ columns, values: x }], columns, bf16);
      expectRounding(await read(rotated, x.length), meant, "rope");
    }
  });

  test("what does not fit is refused in a sentence, before any call", () => {
    const norm = flashinfer.norm();
    const x = operand(new Float32Array(64), [2, 32]);
    const weight = operand(new Float32Array(32), [32]);
    const refused = (output: Operand, input = x, gain = weight, epsilon = 1e-6) =>
      expect(() => norm.rmsnorm(output, input, gain, epsilon));
    refused({ ...x, dtype: "float32" }).toThrow("output: FlashInfer expects bfloat16, found float32");
    refused({ ...x, shape: [2, 16] }).toThrow("output: FlashInfer expects shape [2, 32], found [2, 16]");
    refused({ ...x, strides: [32, 2] }).toThrow("output: FlashInfer expects stride 1 on the last axis");
    refused({ ...x, strides: [36, 1] }).toThrow("output: FlashInfer reads 16 bytes at a time, strides [36, 1]");
    refused({ ...x, offset: 4 }).toThrow("output: FlashInfer reads 16 bytes at a time");
    refused({ ...x, offset: 32 }).toThrow("output: its view needs 192 bytes, the buffer has 128");
    refused(x, { ...x, shape: [0, 32] }).toThrow("input: FlashInfer expects at least one row");
    refused(x, x, { ...weight, shape: [16] }).toThrow("weight: FlashInfer expects shape [32], found [16]");
    refused(x, x, weight, -1).toThrow("epsilon -1: expected 0 or more");
    const heads = operand(new Float32Array(128), [2, 1, 64]);
    const rotation = { query: heads, key: heads, rotatedQuery: heads, rotatedKey: heads, positions: list(0, 1) };
    const turning = { rotaryDim: 64, interleaved: false, scale: 1, theta: 1e4 };
    const rotate = (change: object) => expect(() => flashinfer.rope().apply({ ...rotation, ...turning, ...change }));
    rotate({ rotaryDim: 72 }).toThrow("rotary_dim 72: expected a multiple of 16 up to head_dim 64");
    rotate({ positions: list(0) }).toThrow("pos_ids: FlashInfer expects shape [2], found [1]");
    rotate({ theta: 0 }).toThrow("rope scale 1 and theta 0: expected more than 0");
    rotate({ query: { ...heads, shape: [2, 1, 32] } }).toThrow("head_dim 32: FlashInfer rotates 64, 128, 256, 512");
  });
});
