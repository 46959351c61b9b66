import { afterAll, beforeAll, expect, test } from "vitest";
import type { Cuda } from "../../../src/engine/cuda/cuda.js";
import { activation } from "../../../src/spec/ops/activation.js";
import { rmsNorm } from "../../../src/spec/ops/rmsnorm.js";
import { rope } from "../../../src/spec/ops/rope.js";
import { decode, encode } from "../../../src/tensor/dtype.js";
import { describeCuda } from "../backends.js";
import { expected, expectRounding } from "../expected.js";
import { normals, randomNumbers } from "../gpu.js";
import { header, launch } from "./launching.js";

describeCuda("kernels on CUDA", (open) => {
  let cuda: Cuda;
  beforeAll(async () => {
    cuda = await open();
  });
  afterAll(() => cuda.destroy());

  test("embedding copies rows exactly, in each type; a token beyond the table is its last", async () => {
    const random = randomNumbers(4);
    for (const [format, dtype] of (["bfloat16", "float16", "float32"] as const).entries()) {
      const bytes = encode(normals(random, 7 * 40), dtype) as Uint8Array<ArrayBuffer>;
      const table = decode(bytes, dtype);
      const output = cuda.buffer("output", 3 * 40 * 4);
      const batch = cuda.upload("batch", Int32Array.of(6, 0, 9));
      const weights = cuda.upload("table", bytes);
      const operands = { header: header(cuda, { rows: 3 }), batch, weights, output };
      launch(cuda, "embedding", { ...operands, columns: 40, vocabulary: 7, format }, [1, 3]);
      const rows = [6, 0, 6].flatMap((token) => [...table.subarray(token * 40, token * 40 + 40)]);
      expect([...(await cuda.readFloats(output, 0, 120))]).toEqual(rows);
    }
  });

  test("every float16 becomes the float32 that it is, and the nearest float16 again", async () => {
    const bits = Uint16Array.from({ length: 2 ** 16 }, (_, i) => i);
    const output = cuda.buffer("output", 2 ** 18);
    const batch = cuda.upload("batch", Int32Array.of(0));
    const operands = { header: header(cuda, { rows: 1 }), batch, weights: cuda.upload("halves", bits), output };
    launch(cuda, "embedding", { ...operands, columns: 2 ** 16, vocabulary: 1, format: 1 }, [2 ** 16 / 8 / 64]);
    const found = await cuda.readFloats(output);
    const exact = decode(new Uint8Array(bits.buffer), "float16");
    expect(found.findIndex((x, i) => !Object.is(x, Math.fround(exact[i]!)))).toBe(-1);
  });

  test("rmsnorm over heads of a packed row", async () => {
    const random = randomNumbers(5);
    const x = normals(random, 3 * 92, 4);
    const gain = normals(random, 30);
    const output = cuda.buffer("output", 3 * 48 * 4);
    const narrow = cuda.buffer("narrow", 3 * 48 * 2);
    const places = { inputStride: 92, inputOffset: 12, outputStride: 48, outputOffset: 0, gainOffset: 6 };
    const operands = { input: cuda.upload("x", x), gain: cuda.upload("g", gain), output, narrow };
    const shape = { width: 24, epsilon: 1e-6 };
    launch(cuda, "rmsnorm", { ...operands, ...places, ...shape, format: 1 }, [2, 3]);
    const packed = Float32Array.from({ length: 3 * 48 }, (_, i) => x[Math.floor(i / 48) * 92 + 12 + (i % 48)]!);
    const op = rmsNorm({ weight: "g", epsilon: 1e-6, width: 24 });
    const parameters = { g: { shape: [24], values: gain.subarray(6) } };
    const observed = await cuda.readFloats(output, 0, 144);
    expectRounding(observed, expected(op, [{ columns: 48, values: packed }], 48, { parameters }), "rmsnorm");
    for (const [format, dtype] of (["bfloat16", "float16"] as const).entries()) {
      launch(cuda, "rmsnorm", { ...operands, ...places, ...shape, format, output: null }, [2, 3]);
      const rounded = new Uint8Array(await cuda.read(narrow, 0, 144 * 2));
      expect(rounded).toEqual(encode(observed, dtype));
    }
  });

  test("rope at large positions, of heads whose halves lie inside a group of eight", async () => {
    for (const headDim of [16, 24]) {
      const half = headDim / 2;
      const inverseFrequencies = Float64Array.from({ length: half }, (_, j) => 1e4 ** (-j / half));
      const positions = Int32Array.of(0, 1, 77, 2999);
      const angles = new Float32Array(3000 * headDim);
      for (const p of positions) {
        for (let j = 0; j < half; j++) {
          const angle = p * inverseFrequencies[j]!;
          angles.set([Math.cos(angle), Math.sin(angle)], (p * half + j) * 2);
        }
      }
      const columns = 2 * headDim;
      const rows = 3000;
      const x = normals(randomNumbers(6), rows * columns);
      const picked = Float32Array.from([...positions].flatMap((p) => [...x.subarray(p * columns, (p + 1) * columns)]));
      const output = cuda.buffer("output", picked.byteLength);
      const operands = {
        header: header(cuda, { rows: positions.length }),
        batch: cuda.upload("positions", positions),
        input: cuda.upload("x", picked),
        angles: cuda.upload("angles", angles),
        output,
      };
      launch(
        cuda,
        "rotate",
        { ...operands, heads: 2, headDim, inputStride: columns, inputOffset: 0, format: 2 },
        [1, 4],
      );
      const op = rope({ headDim, rotaryDim: headDim, inverseFrequencies, attentionFactor: 1, pairing: "half" });
      const all = expected(op, [{ columns, values: x }], columns, { rows: positions });
      expectRounding(await cuda.readFloats(output, 0, picked.length), all, `rope of ${headDim}`);
    }
  });

  test("silu over its whole range, and rows of two values that lie apart", async () => {
    const x = Float32Array.from({ length: 402 }, (_, i) => (i - 201) / 2);
    const output = cuda.buffer("output", x.byteLength);
    const common = { header: header(cuda, { rows: 3, sequences: 2 }), first: cuda.upload("x", x), output };
    const places = { columns: 134, firstStride: 134, firstOffset: 0, secondStride: 0, secondOffset: 0 };
    const values = { ...common, ...places, second: null, perSequence: 0, factor: 1 };
    launch(cuda, "pointwise", { ...values, operation: 0 }, [2, 3]);
    const observed = (await cuda.readFloats(output, 0, 402)).map((y, i) => (x[i]! < -75 ? 0 : y));
    const silu = expected(activation("silu"), [{ columns: 134, values: x }], 134);
    expectRounding(observed, { ...silu, value: silu.value.map((y, i) => (x[i]! < -75 ? 0 : y)) }, "silu");
    for (const [operation, meant] of [
      [1, (a: number, b: number) => a * b],
      [2, (a: number, b: number) => a + b],
      [3, (a: number) => 0.5 * a],
    ] as const) {
      const apart = { columns: 3, firstStride: 134, firstOffset: 1, secondStride: 10, secondOffset: 4, factor: 0.5 };
      launch(cuda, "pointwise", { ...values, ...apart, second: common.first, perSequence: 1, operation }, [1, 3]);
      const found = await cuda.readFloats(output, 0, 6);
      const rows = [0, 1].flatMap((row) => [0, 1, 2].map((c) => meant(x[row * 134 + 1 + c]!, x[row * 10 + 4 + c]!)));
      expect([...found]).toEqual(rows.map(Math.fround));
    }
  });

  test("rows of one element type become dense rows of another, each element the nearest", async () => {
    const x = normals(randomNumbers(11), 3 * 1600, 4);
    const strided = { columns: 1040, inputStride: 1600, inputOffset: 16 };
    const narrow = cuda.buffer("narrow", 3 * 1040 * 2);
    const operands = { input: cuda.upload("x", x), output: narrow, inputFormat: 2, outputFormat: 0 };
    launch(cuda, "convert", { ...operands, ...strided }, [3, 3]);
    const wide = cuda.buffer("wide", 3 * 1040 * 4);
    const back = { input: narrow, output: wide, inputFormat: 0, outputFormat: 2 };
    launch(cuda, "convert", { ...back, columns: 1040, inputStride: 1040, inputOffset: 0 }, [3, 3]);
    const rows = [0, 1, 2].flatMap((row) => [...x.subarray(row * 1600 + 16, row * 1600 + 1056)]);
    expect([...(await cuda.readFloats(wide, 0, 3 * 1040))]).toEqual([...decode(encode(rows, "bfloat16"), "bfloat16")]);
  });

  test("a page table of the keys that are there, without the pages that sequences may grow into", async () => {
    // 70 sequences: the sum over those before one takes several rounds of a warp.
    const lengths = Array.from({ length: 70 }, (_, b) => (b * 7) % 23);
    const pageSize = 4;
    const held = lengths.map((length) => Math.ceil(length / pageSize) + 2);
    const starts = held.map((_, b) => held.slice(0, b).reduce((sum, n) => sum + n, 0));
    const total = starts.at(-1)! + held.at(-1)!;
    const batch = Int32Array.from([...lengths, ...starts, total, ...Array.from({ length: total }, (_, i) => 900 - i)]);
    const places = { kvLengthAt: 0, kvIndptrAt: 70, kvIndicesAt: 141, pageSize, sequences: 70 };
    const made = [71, total, 70].map((count, i) => cuda.buffer(`list ${i}`, count * 4));
    const [indptr, indices, lastPageLen] = made as [(typeof made)[0], (typeof made)[0], (typeof made)[0]];
    const operands = { header: header(cuda, places), batch: cuda.upload("batch", batch) };
    launch(cuda, "page-table", { ...operands, indptr, indices, lastPageLen }, [70]);
    const read = async (buffer: (typeof made)[0], count: number) => [
      ...new Int32Array(await cuda.read(buffer, 0, count * 4)),
    ];
    const pages = lengths.map((length) => Math.ceil(length / pageSize));
    const ends = pages.map((_, b) => pages.slice(0, b + 1).reduce((sum, n) => sum + n, 0));
    expect(await read(indptr, 71)).toEqual([0, ...ends]);
    expect(await read(indices, ends.at(-1)!)).toEqual(
      pages.flatMap((count, b) => Array.from({ length: count }, (_, i) => 900 - (starts[b]! + i))),
    );
    expect(await read(lastPageLen, 70)).toEqual(
      lengths.map((length, b) => (length === 0 ? 0 : length - (pages[b]! - 1) * pageSize)),
    );
  });

  test("a read of a buffer touches all of it and leaves nothing", async () => {
    const buffer = cuda.upload("data", new Uint32Array(4 * 1003).fill(7));
    const launches = [await cuda.reader(buffer)];
    cuda.run(launches, { rows: 1, sequences: 1, splitCount: 1, tileCount: 1 });
    expect(new Uint32Array(await cuda.read(buffer)).every((word) => word === 7)).toBe(true);
  });
});
