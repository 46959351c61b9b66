import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it, vi } from "vitest";
import { mapAxes } from "../../src/capture/axes.js";
import { elementOfColumn, onePiece, type Pieces, piecesOfHeads, reachOf } from "../../src/capture/pieces.js";
import { TensorReader } from "../../src/capture/tensor-reader.js";
import { byteWidth, decode } from "../../src/tensor/dtype.js";
import { SafetensorsFile, writeSafetensors } from "../../src/tensor/safetensors.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-reader-"));
const path = join(folder, "tensors.safetensors");
const sizes = { small: 2 ** 16, large: 5 * 2 ** 20 };
const patterns = Object.fromEntries(
  Object.entries(sizes).map(([name, count]) => {
    const words = new Uint16Array(count);
    for (let i = 0; i < count; i++) words[i] = Math.imul(i, 40503) >>> 3;
    return [name, new Uint8Array(words.buffer)];
  }),
);
writeSafetensors(
  path,
  Object.entries(sizes).map(([name, count]) => ({ name, dtype: "bfloat16", shape: [count], bytes: patterns[name]! })),
);
const file = new SafetensorsFile(path);
afterAll(() => {
  file.close();
  rmSync(folder, { recursive: true, force: true });
});

const rows: [string, Pieces][] = [
  ["in one piece", onePiece(96, 1)],
  ["in pieces near each other", piecesOfHeads(6, 16, 40, 1)],
  ["in pieces far apart", piecesOfHeads(3, 32, 10_000, 1)],
  ["backwards", onePiece(96, -1)],
  ["strided", onePiece(96, 170)],
  ["of heads side by side and channels apart", piecesOfHeads(8, 12, 1, 8)],
  ["the same for every head", piecesOfHeads(4, 24, 0, 1)],
];

describe.each(Object.keys(sizes))("a row of a %s tensor", (name) => {
  it.each(rows)("is decoded where it lies: %s", (_, pieces) => {
    const reader = new TensorReader();
    const source = { file, entry: file.entry(name) };
    const all = decode(patterns[name]!, "bfloat16");
    for (const start of [20_000, 20_001, 97]) {
      const out = new Float64Array(100).fill(-7);
      reader.row(source, "bfloat16", start, pieces, out, 2);
      for (let c = 0; c < 96; c++) expect(out[2 + c]).toBe(all[start + elementOfColumn(pieces, c)]);
      expect([out[0], out[1], out[98], out[99]]).toEqual([-7, -7, -7, -7]);
    }
  });

  it("is decoded in each type that views of it claim", () => {
    const reader = new TensorReader();
    const source = { file, entry: file.entry(name) };
    for (const dtype of ["float16", "float8_e4m3fn", "float32", "float16"] as const) {
      const out = new Float64Array(8);
      reader.row(source, dtype, 11, onePiece(8, 1), out, 0);
      expect(out).toEqual(decode(patterns[name]!, dtype, 11 * byteWidth(dtype), 8));
    }
  });

  it("is refused where it leaves the tensor", () => {
    const reader = new TensorReader();
    const source = { file, entry: file.entry(name) };
    const out = new Float64Array(96);
    const count = sizes[name as keyof typeof sizes];
    for (const [start, pieces] of [
      [-1, onePiece(96, 1)],
      [count - 95, onePiece(96, 1)],
      [count - 100, piecesOfHeads(3, 32, 10_000, 1)],
    ] as const)
      expect(() => reader.row(source, "bfloat16", start, pieces, out, 0)).toThrow(
        /bytes end before the last element|has \d+ bytes; a view of it reaches/,
      );
  });
});

describe("a row of a large tensor", () => {
  it("is read without the rest", () => {
    const reader = new TensorReader();
    const source = { file, entry: file.entry("large") };
    const read = vi.spyOn(file, "readInto");
    for (const [start, pieces] of [
      [7, onePiece(96, 1)],
      [99, piecesOfHeads(3, 32, 1_000_000, 1)],
      [99, piecesOfHeads(3, 32, -30, 1)],
    ] as const)
      reader.row(source, "bfloat16", start, pieces, new Float64Array(96), 0);
    expect(read.mock.calls.reduce((sum, [target]) => sum + target.byteLength, 0)).toBe(192 + 192 + 2 * 92);
    read.mockRestore();
  });
});

describe("the pieces of a row", () => {
  it("are one where heads follow each other", () => {
    expect(piecesOfHeads(4, 8, 8, 1)).toEqual(onePiece(32, 1));
    expect(piecesOfHeads(1, 8, 500, 2)).toEqual(onePiece(8, 2));
    expect(piecesOfHeads(4, 8, 9, 1)).toEqual({ count: 4, length: 8, apart: 9, step: 1 });
  });

  it("reach from the nearest element to the farthest", () => {
    expect(reachOf(onePiece(5, -3))).toEqual([-12, 0]);
    expect(reachOf(piecesOfHeads(3, 4, -100, 2))).toEqual([-200, 6]);
    expect(reachOf(piecesOfHeads(3, 4, 10, 1))).toEqual([0, 23]);
  });

  it.each([
    ["b t h d", [2, 5, 4, 8], [160, 32, 8, 1]],
    ["b h t d", [2, 4, 5, 8], [160, 40, 8, 1]],
    ["h t d", [4, 10, 8], [80, 8, 1]],
    ["t c", [10, 32], [50, 1]],
    ["c t", [32, 10], [10, 1]],
    ["t b c", [5, 2, 32], [64, 32, 1]],
  ])("lie where the strides of %s say", (order, shape, strides) => {
    const batch = { sequences: 2, tokens: 5 };
    const map = mapAxes(shape, strides, { rows: 10, columns: 32, heads: 4, batch }, order)!;
    const letters = order.split(" ");
    for (let row = 0; row < 10; row++) {
      for (let column = 0; column < 32; column++) {
        const batched = letters.includes("b");
        const at: Record<string, number> = {
          b: Math.floor(row / 5),
          t: batched ? row % 5 : row,
          h: column >> 3,
          d: column & 7,
          c: column,
        };
        const element = letters.reduce((sum, letter, k) => sum + at[letter]! * strides[k]!, 0);
        expect(map.elementOf(row, column)).toBe(element);
        expect(map.startOf(row) + elementOfColumn(map.pieces, column)).toBe(element);
      }
    }
  });
});
