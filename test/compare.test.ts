import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openCapture } from "../src/capture/reader.js";
import { CaptureWriter, contiguousStrides } from "../src/capture/writer.js";
import { type CompareOptions, compareCaptures } from "../src/compare/compare.js";
import { randomGenerator } from "../src/diagnose/bits/sample.js";
import { comparisonText } from "../src/report/comparison.js";
import { comparisonJson } from "../src/report/comparison-json.js";
import { readModelConfig } from "../src/spec/models/config-file.js";
import { decoderGraph } from "../src/spec/models/decoder.js";
import { type DType, encode, roundTo } from "../src/tensor/dtype.js";
import { writeSafetensors } from "../src/tensor/safetensors.js";
import { expectPublished } from "./published.js";

let folder: string;
let files = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "faultline-compare-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const graph = decoderGraph(readModelConfig("models/ishmael-7m").config);
const tokens = 6;

interface Recorded {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
  readonly dtype?: DType;
}

/** A plain recording of six tokens. */
function plain(values: readonly Recorded[]): string {
  const path = join(folder, `${files++}.safetensors`);
  const ids = {
    name: "input_ids",
    dtype: "int32" as const,
    shape: [1, tokens],
    bytes: encode([1, 2, 3, 4, 5, 6], "int32"),
  };
  const tensors = values.map(({ name, shape, values: v, dtype = "bfloat16" }) => ({
    name,
    shape,
    dtype,
    bytes: encode(v, dtype),
  }));
  writeSafetensors(path, [ids, ...tensors]);
  return path;
}

/** A capture directory of one step, of dense values only. */
function directory(
  values: readonly (Recorded & { strides?: number[]; role?: "input" | "output" })[],
  dims: Record<string, string> = {},
): string {
  const path = join(folder, `${files++}`);
  const writer = new CaptureWriter(path, { dims });
  writer.step({ event: "step", step: 0, seq_ids: [0], token_ids: [1, 2, 3, 4, 5, 6], qo_indptr: [0, tokens] });
  values.forEach(({ name, shape, values: v, dtype = "bfloat16", strides, role = "output" }, i) => {
    const view = {
      storage: `s${i}`,
      epoch: 0,
      dtype,
      shape: [...shape],
      strides: strides ?? contiguousStrides(shape),
      offset: 0,
    };
    writer.dense(name, role, view, encode(v, dtype));
  });
  writer.finishStep();
  return path;
}

function compare(reference: string, target: string, options: CompareOptions = {}) {
  const a = openCapture(reference);
  const b = openCapture(target);
  try {
    return compareCaptures(a, b, options);
  } finally {
    a.close();
    b.close();
  }
}

function noise(length: number, seed = 1): Float64Array {
  const random = randomGenerator(seed);
  return Float64Array.from({ length }, () => random() * 2 - 1);
}

const q = "model.layers.0.self_attn.q_rope";
const mlp = "model.layers.0.mlp";
const values = noise(tokens * 128);

describe("two equal captures", () => {
  it("are the same, with equal digests and a cosine of 1", () => {
    const path = plain([{ name: mlp, shape: [1, tokens, 128], values }]);
    const result = compare(path, path);
    expect(result.same).toBe(true);
    expect(result.first).toBeUndefined();
    expect(result.worst).toBeUndefined();
    const value = result.values[0]!;
    expect(value).toMatchObject({
      state: "same",
      differing: 0,
      maxAbsError: 0,
      relativeError: 0,
      timesNoise: 0,
      elements: 768,
    });
    expect(value.cosine).toBeCloseTo(1, 12);
    expect(value.reference.digest).toBe(value.target.digest);
  });

  it("hold for a recording of several steps with KV pages", () => {
    const result = compare("test/golden/paged_bf16", "test/golden/paged_bf16", { graph });
    expect(result.same).toBe(true);
    expect(result.values.length).toBe(395);
    expect(result.missing).toEqual([]);
  });
});

describe("one element changed", () => {
  it("is found with its coordinate, its size and its share", () => {
    const changed = values.slice();
    changed[3 * 128 + 17] = 40;
    const result = compare(
      plain([{ name: mlp, shape: [1, tokens, 128], values }]),
      plain([{ name: mlp, shape: [1, tokens, 128], values: changed }]),
    );
    const value = result.values[0]!;
    expect(result.same).toBe(false);
    expect(value).toMatchObject({
      state: "differs",
      differing: 1,
      beyondRounding: 1,
      maxAt: [0, 3, 17],
      maxTarget: 40,
    });
    expect(value.maxAbsError).toBeCloseTo(40 - value.maxReference!, 12);
    const norm = Math.hypot(...values);
    expect(value.relativeError).toBeCloseTo(value.maxAbsError / norm, 2);
    expect(value.timesNoise).toBeGreaterThan(100);
  });

  it("by one step of the dtype counts as rounding", () => {
    const changed = values.slice();
    changed[5] = 1;
    const nudged = values.slice();
    nudged[5] = 1 + 2 ** -7;
    const [a, b] = [changed, nudged].map((v) => plain([{ name: mlp, shape: [1, tokens, 128], values: v }]));
    const result = compare(a!, b!);
    expect(result.values[0]).toMatchObject({ state: "rounding", differing: 1, beyondRounding: 0 });
    expect(result.same).toBe(true);
  });
});

describe("relabelled values", () => {
  it("are called so when heads are permuted", () => {
    const heads = 4;
    const permuted = Float64Array.from({ length: tokens * 128 }, (_, i) => {
      const [row, head, channel] = [Math.floor(i / 128), Math.floor((i % 128) / 32), i % 32];
      return values[row * 128 + ((head + 1) % heads) * 32 + channel]!;
    });
    const result = compare(
      plain([{ name: mlp, shape: [1, tokens, 128], values }]),
      plain([{ name: mlp, shape: [1, tokens, 128], values: permuted }]),
    );
    const value = result.values[0]!;
    expect(value.state).toBe("relabelled");
    expect(value.reference.multisetDigest).toBe(value.target.multisetDigest);
    expect(value.reference.digest).not.toBe(value.target.digest);
    expect(result.same).toBe(false);
    expect(comparisonText(result, { colors: false })).toContain("same values, other order");
  });

  it.each(["float32", "float64", "int32", "int64", "float16", "uint8"] as const)("are found in %s too", (dtype) => {
    const whole = values.map((v) => (dtype.includes("int") ? Math.abs(Math.round(v * 200)) : v));
    const [a, b] = [whole, whole.slice().reverse()].map((v) =>
      plain([{ name: mlp, shape: [1, tokens, 128], values: v, dtype }]),
    );
    expect(compare(a!, b!).values[0]!.state).toBe("relabelled");
  });

  it("are not claimed when one value is replaced by another that occurs", () => {
    const other = values.slice().reverse();
    other[0] = other[1]!;
    const [a, b] = [values, other].map((v) => plain([{ name: mlp, shape: [1, tokens, 128], values: v }]));
    expect(compare(a!, b!).values[0]!.state).toBe("differs");
  });
});

describe("non-finite elements", () => {
  it("are counted on both sides, and rank as the worst", () => {
    const left = values.slice();
    const right = values.slice();
    left[7] = Number.NaN;
    right[7] = Number.NaN;
    right[300] = Number.NaN;
    right[301] = -Infinity;
    const bad = { name: "model.layers.1.mlp", shape: [1, tokens, 128] };
    const far = { name: mlp, shape: [1, tokens, 128] };
    const result = compare(
      plain([
        { ...bad, values: left },
        { ...far, values },
      ]),
      plain([
        { ...bad, values: right },
        { ...far, values: values.map((v) => v * 1e6) },
      ]),
    );
    expect(result.values.map(({ name }) => name)).toEqual([mlp, bad.name]);
    const value = result.values[1]!;
    expect(value).toMatchObject({
      state: "differs",
      nonFiniteDiffering: 2,
      firstNonFiniteAt: [0, 2, 44],
      maxAbsError: 0,
    });
    expect([value.reference.nan, value.target.nan, value.target.infinite]).toEqual([1, 2, 1]);
    expect([result.first, result.worst]).toEqual([0, 1]);
    expect(Number.isFinite(value.relativeError)).toBe(true);
    expect(JSON.stringify(comparisonJson(result))).not.toContain("Infinity");
    expectPublished("compare", comparisonJson(result));
  });
});

describe("other dtypes", () => {
  it("are within rounding when only the store differs, and the note says so", () => {
    const exact = values.map((v) => Math.fround(v));
    const result = compare(
      plain([{ name: mlp, shape: [1, tokens, 128], values: exact, dtype: "float32" }]),
      plain([{ name: mlp, shape: [1, tokens, 128], values: exact }]),
    );
    const value = result.values[0]!;
    expect(value.state).toBe("rounding");
    expect(value.notes).toContain("dtype float32 / bfloat16");
    expect(value.differing).toBeGreaterThan(700);
    // The expected noise is what was measured: one store, to bfloat16.
    expect(value.timesNoise).toBeGreaterThan(0.9);
    expect(value.timesNoise).toBeLessThan(1.1);
  });

  it("have equal multiset digests for equal values, whatever the store", () => {
    const exact = values.map((v) => Math.round(v * 64) / 64);
    const digests = (["float64", "float32", "float16", "bfloat16"] as const).map((dtype) => {
      const path = plain([{ name: mlp, shape: [1, tokens, 128], values: exact, dtype }]);
      return compare(path, path).values[0]!.reference.multisetDigest;
    });
    expect(new Set(digests).size).toBe(1);
  });
});

describe("other addressing", () => {
  const rows = noise(tokens * 256, 3);
  const headMajor = Float64Array.from({ length: rows.length }, (_, i) => {
    const [head, token, channel] = [Math.floor(i / (tokens * 64)), Math.floor(i / 64) % tokens, i % 64];
    return rows[token * 256 + head * 64 + channel]!;
  });

  it("is mapped by the model: [b h t d] against [t c]", () => {
    const reference = plain([{ name: q, shape: [1, 4, tokens, 64], values: headMajor }]);
    const changed = rows.slice();
    changed[2 * 256 + 100] = 9;
    const same = compare(reference, directory([{ name: q, shape: [tokens, 256], values: rows }]), { graph });
    expect(same.values[0]!).toMatchObject({ state: "same", notes: ["axis order b h t d / t c"] });
    const result = compare(reference, directory([{ name: q, shape: [tokens, 256], values: changed }]), { graph });
    expect(result.values[0]!).toMatchObject({ state: "differs", differing: 1, maxAt: [2, 100] });
  });

  it("without a model is one of shape, unless `dims` names the axes", () => {
    const reference = directory([{ name: q, shape: [4, tokens, 64], values: headMajor }]);
    const unknown = compare(reference, directory([{ name: q, shape: [tokens, 4, 64], values: rows }]));
    expect(unknown.values[0]!).toMatchObject({ state: "relabelled", elements: 0 });
    expect(unknown.values[0]!.notes[0]).toContain("--model");
    const named = compare(
      directory([{ name: q, shape: [4, tokens, 64], values: headMajor }], { "*.q_rope": "h t d" }),
      directory([{ name: q, shape: [tokens, 4, 64], values: rows }], { "*.q_rope": "t h d" }),
    );
    expect(named.values[0]!.state).toBe("same");
  });

  it("strides are called out and read through", () => {
    const padded = new Float64Array((tokens - 1) * 200 + 128).fill(99);
    for (let row = 0; row < tokens; row++) padded.set(values.subarray(row * 128, row * 128 + 128), row * 200);
    const reference = directory([{ name: mlp, shape: [tokens, 128], values }]);
    const target = directory([{ name: mlp, shape: [tokens, 128], values: padded, strides: [200, 1] }]);
    const value = compare(reference, target).values[0]!;
    expect(value).toMatchObject({ state: "same", notes: ["strides [128,1] / [200,1]"] });
    expect(value.target.strides).toEqual([200, 1]);
  });

  it("pairs a value recorded as read with the same value as produced", () => {
    const reference = directory([{ name: mlp, shape: [tokens, 128], values }]);
    const target = directory([{ name: mlp, shape: [tokens, 128], values, role: "input" }]);
    const result = compare(reference, target);
    expect(result.same).toBe(true);
    expect(result.values[0]!.notes[0]).toContain("output / input");
  });

  it("compares last rows where one side selected them before lm_head", () => {
    const logits = noise(tokens * 4096, 5);
    const reference = plain([{ name: "lm_head", shape: [1, tokens, 4096], values: logits }]);
    const target = directory([{ name: "lm_head", shape: [1, 4096], values: logits.subarray((tokens - 1) * 4096) }]);
    expect(compare(reference, target, { graph }).values[0]!).toMatchObject({ state: "same", elements: 4096 });
  });
});

describe("coverage", () => {
  it("a missing value makes the captures differ, an extra one does not", () => {
    const both = plain([
      { name: mlp, shape: [1, tokens, 128], values },
      { name: "model.norm", shape: [1, tokens, 128], values },
    ]);
    const one = plain([{ name: mlp, shape: [1, tokens, 128], values }]);
    const lacking = compare(both, one);
    expect(lacking.same).toBe(false);
    expect(lacking.missing).toEqual([{ step: 0, name: "model.norm" }]);
    const extra = compare(one, both);
    expect(extra.same).toBe(true);
    expect(extra.extra).toEqual([{ step: 0, name: "model.norm" }]);
  });

  it("aligns names through wrappers and orders plain recordings by execution", () => {
    const names = [
      "lm_head",
      "model.layers.10.mlp",
      "model.layers.2.mlp",
      "model.layers.2.input_layernorm",
      "model.embed_tokens",
    ];
    const shape = [1, tokens, 128];
    const result = compare(
      plain(names.map((name) => ({ name, shape, values }))),
      plain(
        names.map((name) => ({
          name: `module.${name.replace("model.layers", "_orig_mod.model.layers")}`,
          shape,
          values,
        })),
      ),
    );
    expect(result.same).toBe(true);
    expect(result.values.map(({ name }) => name)).toEqual([
      "model.embed_tokens",
      "model.layers.2.input_layernorm",
      "model.layers.2.mlp",
      "model.layers.10.mlp",
      "lm_head",
    ]);
  });

  it("has no limit on how values are counted: the digest of a long tensor is that of its parts", () => {
    // From 65,536 elements on, 16-bit values are counted by bit pattern instead of one by one.
    const long = noise(tokens * 2 ** 14, 9);
    const [narrow, wide] = (["bfloat16", "float32"] as const).map((dtype) => {
      const stored = long.map((v) => roundTo(v, "bfloat16"));
      const path = plain([{ name: mlp, shape: [1, tokens, 2 ** 14], values: stored, dtype }]);
      return compare(path, path).values[0]!.reference;
    });
    expect(narrow!.multisetDigest).toBe(wide!.multisetDigest);
    expect(narrow!.norm).toBeCloseTo(wide!.norm, 9);
  });

  it("says where the steps computed other tokens", () => {
    const path = join(folder, "other-tokens");
    const writer = new CaptureWriter(path, {});
    writer.step({ event: "step", step: 0, seq_ids: [0], token_ids: [1, 2, 3, 9, 5, 6], qo_indptr: [0, tokens] });
    writer.dense(
      mlp,
      "output",
      { storage: "s", epoch: 0, dtype: "bfloat16", shape: [tokens, 128], strides: [128, 1], offset: 0 },
      encode(values, "bfloat16"),
    );
    writer.finishStep();
    const result = compare(directory([{ name: mlp, shape: [tokens, 128], values }]), path);
    expect(result.steps[0]!.notes).toEqual(["tokens differ from entry 3 on: 4 / 9"]);
  });
});

describe("large tensors", () => {
  it("give the same result whatever the chunk", () => {
    const long = noise(tokens * 128, 8);
    const other = long.map((v, i) => (i % 97 === 0 ? v * 1.5 : v));
    const headMajor = directory([{ name: mlp, shape: [128, tokens], values: transposed(other, tokens, 128) }], {
      [mlp]: "c t",
    });
    const reference = directory([{ name: mlp, shape: [tokens, 128], values: long }], { [mlp]: "t c" });
    const whole = comparisonJson(compare(reference, headMajor));
    expectPublished("compare", whole);
    for (const chunk of [1, 7, 128, 131, 767]) {
      const value = comparisonJson(compare(reference, headMajor, { chunk }));
      expect(rounded(value)).toEqual(rounded(whole));
    }
  });

  it("are never held whole", () => {
    // 16 MiB a side; a few chunks of 2^17 elements may be alive at a time.
    const big = Float32Array.from({ length: tokens * 2 ** 19 }, (_, i) => Math.sin(i));
    const path = plain([{ name: mlp, shape: [1, tokens, 2 ** 19], values: big, dtype: "float32" }]);
    const capture = openCapture(path);
    const file = (capture.records[0] as { source: { file: { readBytes(...args: unknown[]): Uint8Array } } }).source
      .file;
    const read = file.readBytes.bind(file);
    let largest = 0;
    file.readBytes = (...args) => {
      const bytes = read(...args);
      largest = Math.max(largest, bytes.byteLength);
      return bytes;
    };
    const other = openCapture(path);
    expect(compareCaptures(capture, other).same).toBe(true);
    expect(largest).toBeLessThanOrEqual(2 ** 17 * 4);
    capture.close();
    other.close();
  });
});

describe("bad input", () => {
  it("is refused with one sentence", () => {
    const good = plain([{ name: mlp, shape: [1, tokens, 128], values }]);
    const rubbish = join(folder, "rubbish.safetensors");
    writeFileSync(rubbish, "not a tensor in sight");
    expect(() => compare(good, rubbish)).toThrow(/rubbish\.safetensors: not a safetensors file/);
    expect(() => compare(good, join(folder, "nowhere"))).toThrow(/no such file or directory/);
  });
});

describe("the table", () => {
  it("of two real recordings fits 120 columns and marks the first and the worst", () => {
    const result = compare(
      "test/golden/hf_prefill_bf16_cpu.safetensors",
      "cases/exclamation-mark/capture.safetensors",
      { graph },
    );
    const text = comparisonText(result, { colors: false });
    const lines = text.split("\n");
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(120);
    expect(text).not.toContain("\x1b");
    expect(lines.filter((line) => line.endsWith(" first"))).toHaveLength(1);
    expect(lines.filter((line) => line.endsWith(" worst"))).toHaveLength(1);
    expect(result.values[result.first!]!.name).toBe("model.embed_tokens");
    // The projections with a bias of 1.7e29, or what they feed directly.
    expect(result.values[result.worst!]!.name).toMatch(/layers\.1\.self_attn/);
    expect(result.values[result.worst!]!.timesNoise).toBeGreaterThan(1e28);
  });
});

/** [rows, columns] to [columns, rows] */
function transposed(matrix: Float64Array, rows: number, columns: number): Float64Array {
  return Float64Array.from({ length: matrix.length }, (_, i) => matrix[(i % rows) * columns + Math.floor(i / rows)]!);
}

/** Sums differ in their last bits with the chunk. */
function rounded(json: unknown): unknown {
  return JSON.parse(JSON.stringify(json), (_, v) => (typeof v === "number" ? Number(v.toPrecision(10)) : v));
}
