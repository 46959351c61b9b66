import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { compileSource } from "../../scripts/build-simd.mjs";
import { BlockSums } from "../../src/tensor/block-sums.js";
import { blockSumsModule } from "../../src/tensor/block-sums-module.js";
import { Checkpoint } from "../../src/tensor/checkpoint.js";
import { byteWidth, decode, encode, tf32Format } from "../../src/tensor/dtype.js";
import { randomSigns } from "../../src/tensor/random-signs.js";
import { roundAll, roundToFormat } from "../../src/tensor/rounding.js";
import { writeSafetensors } from "../../src/tensor/safetensors.js";
import type { WeightFormat } from "../../src/tensor/weight-format.js";

const sums = new BlockSums();

const formats: WeightFormat[] = [
  { dtype: "bfloat16" },
  { dtype: "float16" },
  { dtype: "float32" },
  { dtype: "float32", roundedTo: "tf32" },
  { dtype: "float32", roundedTo: "bfloat16" },
  { dtype: "float32", roundedTo: "float16" },
  { dtype: "float64" },
  { dtype: "float64", roundedTo: "bfloat16" },
  { dtype: "float8_e4m3fn", roundedTo: "bfloat16" },
  { dtype: "float8_e5m2" },
  { dtype: "int8" },
];

function name({ dtype, roundedTo }: WeightFormat): string {
  return roundedTo ? `${dtype} rounded to ${roundedTo}` : dtype;
}

/** Reproducible numbers between -1 and 1. */
function numbers(count: number, seed: number): Float64Array {
  let state = seed;
  return Float64Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return state / 2 ** 31;
  });
}

interface Problem {
  readonly format: WeightFormat;
  readonly bytes: Uint8Array;
  readonly x: Float64Array;
  readonly rows: number;
  readonly inputs: number;
  readonly columns: number;
  readonly width: number;
  readonly signs: Int8Array;
  readonly single?: boolean;
}

function problem(format: WeightFormat, rows: number, inputs: number, columns: number, width: number): Problem {
  const values = numbers(columns * inputs, 7).map((x) => x * 100);
  const x = numbers(rows * inputs, 11);
  return {
    format,
    bytes: encode(values, format.dtype),
    x,
    rows,
    inputs,
    columns,
    width,
    signs: randomSigns(5, columns),
  };
}

function products(p: Problem): Float64Array {
  const rowBytes = p.inputs * byteWidth(p.format.dtype);
  const weights = {
    readInto(target: Uint8Array, first: number, count: number) {
      expect(target.length).toBe(count * rowBytes);
      target.set(p.bytes.subarray(first * rowBytes, (first + count) * rowBytes));
    },
  };
  return sums.products({ ...p, weights });
}

/** The definition, and for every product the sum of its terms' magnitudes. */
function plain({ format, bytes, x, rows, inputs, columns, width, signs }: Problem) {
  const w = decode(bytes, format.dtype);
  if (format.roundedTo === "tf32") roundToFormat(w, tf32Format);
  else if (format.roundedTo) roundAll(w, format.roundedTo);
  const blocks = Math.ceil(columns / width);
  const value = new Float64Array(rows * blocks);
  const magnitude = new Float64Array(rows * blocks);
  for (let c = 0; c < columns; c++) {
    for (let r = 0; r < rows; r++) {
      for (let i = 0; i < inputs; i++) {
        const term = signs[c]! * w[c * inputs + i]! * x[r * inputs + i]!;
        value[r * blocks + Math.floor(c / width)]! += term;
        magnitude[r * blocks + Math.floor(c / width)]! += Math.abs(term);
      }
    }
  }
  return { value, magnitude };
}

function expectAsDefined(p: Problem): void {
  const { value, magnitude } = plain(p);
  const found = products(p);
  expect(found.length).toBe(value.length);
  for (let i = 0; i < found.length; i++) {
    if (Number.isFinite(value[i]!)) expect(Math.abs(found[i]! - value[i]!)).toBeLessThanOrEqual(1e-12 * magnitude[i]!);
    else expect(found[i]).toBe(value[i]);
  }
}

describe.each(formats.map((format) => [name(format), format] as const))("block sums of %s", (_, format) => {
  it.each([
    { rows: 1, inputs: 1, columns: 1, width: 1 },
    { rows: 1, inputs: 7, columns: 5, width: 2 },
    { rows: 3, inputs: 13, columns: 17, width: 16 },
    { rows: 4, inputs: 16, columns: 32, width: 8 },
    { rows: 5, inputs: 33, columns: 10, width: 1 },
    { rows: 6, inputs: 521, columns: 37, width: 7 },
    { rows: 2, inputs: 1031, columns: 9, width: 100 },
  ])("are those of the definition: $rows rows, $columns columns of $inputs in blocks of $width", (size) => {
    expectAsDefined(problem(format, size.rows, size.inputs, size.columns, size.width));
  });

  it("are those of the definition where blocks lie across what is read at a time", () => {
    expectAsDefined(problem(format, 2, 4099, 150, 49));
  });

  it("keep subnormal weights", () => {
    const p = problem(format, 2, 19, 6, 3);
    // The first patterns of a float format are its subnormal numbers.
    const width = byteWidth(format.dtype);
    for (let i = 0; i < p.bytes.length; i++) p.bytes[i] = i % width === 0 ? (i * 37) % 120 : 0;
    p.x.fill(1);
    expectAsDefined(p);
    expect(products(p).some((value) => value !== 0)).toBe(format.roundedTo === undefined || width === 1);
  });

  it("multiply more rows than stay in memory at once", () => {
    expectAsDefined(problem(format, 150, 8209, 3, 2));
  });
});

describe.each(formats.filter(({ dtype }) => dtype !== "int8").map((format) => [name(format), format] as const))(
  "in weights of %s",
  (_, format) => {
    const infinite = format.dtype !== "float8_e4m3fn";

    it.each([
      [Number.NaN, Number.NaN],
      [Infinity, infinite ? Infinity : Number.NaN],
      [-Infinity, infinite ? -Infinity : Number.NaN],
    ])("%d reaches its own block, and no other", (weight, product) => {
      for (const at of [0, 8, 22, 44]) {
        const p = problem(format, 3, 23, 8, 2);
        p.x.fill(1);
        p.signs.fill(1);
        const width = byteWidth(format.dtype);
        p.bytes.set(encode([weight], format.dtype), (5 * 23 + (at % 23)) * width);
        const found = products(p);
        for (let i = 0; i < found.length; i++) {
          if (i % 4 === 2) expect(found[i]).toBe(product);
          else expect(Number.isFinite(found[i]!)).toBe(true);
        }
      }
    });
  },
);

describe("every float16", () => {
  it("is widened exactly, with its sign", () => {
    const bytes = new Uint8Array(2 ** 17);
    const view = new DataView(bytes.buffer);
    for (let bits = 0; bits < 2 ** 16; bits++) view.setUint16(bits * 2, bits, true);
    const p = { ...problem({ dtype: "float16" }, 1, 1, 2 ** 16, 1), bytes, x: Float64Array.of(1) };
    const values = decode(bytes, "float16");
    const found = products(p);
    expect(found.findIndex((value, i) => !Object.is(value + 0, values[i]! * p.signs[i]! + 0))).toBe(-1);
  });
});

describe.each([
  ["tf32", 13],
  ["bfloat16", 16],
] as const)("float32 rounded to %s", (roundedTo, cut) => {
  it("is rounded as everywhere else: ties, overflow, subnormals, NaN", () => {
    const halves = [
      0,
      1,
      2 ** (cut - 1) - 1,
      2 ** (cut - 1),
      2 ** (cut - 1) + 1,
      2 ** cut - 1,
      2 ** cut,
      3 * 2 ** (cut - 1),
    ];
    const upper = [
      0, 1, 2, 0x3f800000, 0x3f7f0000, 0x7f7f0000, 0x7f7fe000, 0x7f800000, 0x00800000, 0x007f0000, 0x12340000,
    ];
    const patterns = upper.flatMap((high) => halves.flatMap((low) => [high + low, high + low + 0x80000000]));
    const bytes = new Uint8Array(Uint32Array.from(patterns).buffer);
    const size = patterns.length;
    const p = { ...problem({ dtype: "float32", roundedTo }, 1, 1, size, 1), bytes, x: Float64Array.of(1) };
    const expected = plain(p).value;
    const found = products(p);
    expect([...found].map((value, i) => [patterns[i], value])).toEqual(
      [...expected].map((value, i) => [patterns[i], value]),
    );
  });
});

describe("signs", () => {
  it("are the same for a seed, others for another, and balanced", () => {
    const signs = randomSigns(1, 10_000);
    expect(randomSigns(1, 10_000)).toEqual(signs);
    for (const seed of [0, 2, 3, 0x5bf03635]) {
      const other = randomSigns(seed, 10_000);
      expect(Math.abs(signs.reduce((sum, sign, i) => sum + sign * other[i]!, 0))).toBeLessThan(400);
    }
    expect(Math.abs(signs.reduce((sum, sign) => sum + sign, 0))).toBeLessThan(400);
    expect(new Set(signs)).toEqual(new Set([1, -1]));
  });

  it("subtract a column that is negative, and let a wrong element of the product stand out", () => {
    const p = problem({ dtype: "float32" }, 1, 40, 32, 16);
    const y = plain({ ...p, width: 1, signs: new Int8Array(32).fill(1) }).value;
    const recorded = (b: number) =>
      y.subarray(16 * b, 16 * b + 16).reduce((s, v, c) => s + p.signs[16 * b + c]! * v, 0);
    y[20]! += 1e-3;
    const found = products(p);
    expect(Math.abs(recorded(0) - found[0]!)).toBeLessThan(1e-10);
    expect(Math.abs(recorded(1) - found[1]!)).toBeCloseTo(1e-3, 9);
  });
});

describe("products in float32", () => {
  it.each(formats.map((format) => [name(format), format] as const))("are near those in float64: %s", (_, format) => {
    for (const [rows, inputs, columns, width] of [
      [3, 37, 21, 4],
      [64, 1100, 40, 8],
      [1, 16, 9, 16],
      [1030, 20, 6, 2],
    ] as const) {
      const p = problem(format, rows, inputs, columns, width);
      const { value, magnitude } = plain(p);
      const found = products({ ...p, single: true });
      expect(found.length).toBe(value.length);
      const far = found.findIndex((x, i) => Math.abs(x - value[i]!) > 2 ** -21 * magnitude[i]!);
      expect(far).toBe(-1);
    }
  });

  it("are taken in float64 where they leave the range of float32", () => {
    const p = problem({ dtype: "bfloat16" }, 2, 40, 8, 4);
    p.x[3] = 3e37;
    expect(products({ ...p, single: true })).toEqual(products(p));
    p.x[3] = Number.NaN;
    const found = products({ ...p, single: true });
    expect([...found].map(Number.isNaN)).toEqual([true, true, false, false]);
    expect(found).toEqual(products(p));
  });
});

describe("a checkpoint's parameter", () => {
  it("is read straight into the module, at any alignment", () => {
    const directory = mkdtempSync(join(tmpdir(), "block-sums-"));
    try {
      const p = problem({ dtype: "bfloat16" }, 3, 37, 21, 4);
      const odd = { name: "odd", dtype: "uint8", shape: [3], bytes: new Uint8Array(3) } as const;
      const tensor = { name: "w", dtype: "bfloat16", shape: [21, 37], bytes: p.bytes } as const;
      writeSafetensors(join(directory, "model.safetensors"), [odd, tensor]);
      const checkpoint = new Checkpoint(directory);
      const weights = { readInto: (target: Uint8Array, first: number) => checkpoint.readInto("w", target, first) };
      expect(sums.products({ ...p, weights })).toEqual(products(p));
      expect(() => checkpoint.readInto("w", new Uint8Array(75), 20)).toThrow(
        /has 1554 bytes; a view of it reaches byte/,
      );
      expect(() => checkpoint.readInto("v", new Uint8Array(4), 0)).toThrow('no parameter "v"');
      checkpoint.close();
    } finally {
      rmSync(directory, { recursive: true });
    }
  });
});

describe("a request that does not fit its arrays", () => {
  it.each([
    [{ x: new Float64Array(5) }, "expected 2 rows of 3 inputs"],
    [{ signs: new Int8Array(3) }, "expected a sign for each of 4 columns"],
    [{ width: 0 }, "expected blocks of 1 column or more, found 0"],
  ])("is refused: %o", (change, message) => {
    expect(() => products({ ...problem({ dtype: "float32" }, 2, 3, 4, 2), ...change })).toThrow(message);
  });

  it("gives no products of no rows, and zeros of no inputs", () => {
    expect(products(problem({ dtype: "bfloat16" }, 0, 5, 6, 4))).toEqual(new Float64Array(0));
    expect(products(problem({ dtype: "bfloat16" }, 2, 0, 6, 4))).toEqual(new Float64Array(4));
  });
});

describe("the compiled module", () => {
  afterEach(() => vi.unstubAllGlobals());

  it("is that of the source beside it", async () => {
    expect(Buffer.from(await compileSource("block-sums")).toString("base64")).toBe(blockSumsModule);
  });

  it("is refused in one sentence where there is no SIMD", () => {
    vi.stubGlobal("WebAssembly", { ...WebAssembly, validate: () => false });
    expect(() => new BlockSums()).toThrow("need WebAssembly with SIMD");
    vi.stubGlobal("WebAssembly", undefined);
    expect(() => new BlockSums()).toThrow("need WebAssembly with SIMD");
  });
});
