import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { appendPagedKVCache } from "../../src/engine/attention/append.js";
import { mergeStates } from "../../src/engine/attention/merge.js";
import {
  BatchDecodeWithPagedKVCache,
  BatchPrefillWithPagedKVCache,
  BatchPrefillWithRaggedKVCache,
} from "../../src/engine/attention/wrapper.js";
import { Cuda } from "../../src/engine/cuda/cuda.js";
import { pagedStrides } from "../../src/engine/device/kv-store.js";
import type { Tensor } from "../../src/engine/device/tensor.js";
import { attention } from "../../src/spec/ops/attention.js";
import { attentionRecipes } from "../../src/spec/ops/attention-recipes.js";
import type { Recipe } from "../../src/spec/recipe.js";
import { RowTable, type Step } from "../../src/spec/rows.js";
import { type DType, decode, encode } from "../../src/tensor/dtype.js";
import { type AttentionTraits, backends, type TestBackend } from "./backends.js";
import { type Expectation, expected, expectRounding } from "./expected.js";
import { normals, openTestDevice, randomNumbers } from "./gpu.js";

let gpu: TestBackend;
let traits: AttentionTraits | undefined;

interface Case {
  kind: "decode" | "paged" | "ragged";
  layout?: "NHD" | "HND";
  pageSize?: number;
  group: number;
  headDim: number;
  qo: number[];
  kv: number[];
  causal?: boolean;
  windowLeft?: number;
  softCap?: number;
  kvDtype?: DType;
  /** K and V interleaved in one buffer: [pages, 2, …]. */
  combined?: boolean;
}

const kvHeads = 2;
const cases: Case[] = [
  { kind: "decode", pageSize: 16, group: 1, headDim: 64, qo: [1, 1, 1], kv: [1, 17, 150], kvDtype: "bfloat16" },
  { kind: "decode", layout: "HND", pageSize: 5, group: 7, headDim: 24, qo: [1, 1], kv: [70, 3], softCap: 2 },
  { kind: "decode", pageSize: 32, group: 2, headDim: 32, qo: [1, 1], kv: [33, 64], kvDtype: "float16" },
  { kind: "decode", pageSize: 16, group: 3, headDim: 16, qo: [1], kv: [40], softCap: 1, windowLeft: 9 },
  { kind: "decode", layout: "HND", pageSize: 1, group: 4, headDim: 16, qo: [1, 1], kv: [2, 65], combined: true },
  { kind: "decode", layout: "HND", pageSize: 32, group: 6, headDim: 24, qo: [1], kv: [31], kvDtype: "bfloat16" },
  { kind: "decode", pageSize: 5, group: 8, headDim: 16, qo: [1, 1, 1], kv: [5, 6, 1] },
  { kind: "decode", pageSize: 1, group: 5, headDim: 16, qo: [1, 1], kv: [9, 130], windowLeft: 70, combined: true },
  {
    kind: "paged",
    pageSize: 16,
    group: 2,
    headDim: 64,
    qo: [5, 1, 70],
    kv: [5, 40, 75],
    causal: true,
    kvDtype: "float16",
  },
  { kind: "paged", layout: "HND", pageSize: 32, group: 3, headDim: 40, qo: [3, 2], kv: [50, 2], combined: true },
  { kind: "paged", pageSize: 5, group: 8, headDim: 16, qo: [4], kv: [37], causal: true, windowLeft: 6, softCap: 3 },
  { kind: "paged", pageSize: 1, group: 4, headDim: 16, qo: [0, 2, 3], kv: [6, 2, 9], causal: true },
  { kind: "ragged", group: 6, headDim: 16, qo: [3, 4], kv: [3, 20], causal: true, kvDtype: "bfloat16" },
  { kind: "paged", pageSize: 16, group: 1, headDim: 64, qo: [9], kv: [80], windowLeft: 20, kvDtype: "bfloat16" },
  {
    kind: "paged",
    layout: "HND",
    pageSize: 7,
    group: 3,
    headDim: 96,
    qo: [66, 5, 1],
    kv: [140, 9, 3],
    causal: true,
    kvDtype: "float16",
  },
  { kind: "ragged", group: 1, headDim: 128, qo: [20], kv: [70], softCap: 2, kvDtype: "bfloat16" },
  {
    kind: "paged",
    pageSize: 4,
    group: 2,
    headDim: 256,
    qo: [6],
    kv: [70],
    causal: true,
    kvDtype: "bfloat16",
    combined: true,
  },
];

/** A case as the back end takes it: in its own element type, with heads of the next size that it knows. */
function taken(c: Case): Case {
  if (!traits) return c;
  const headDim = traits.headDims.find((dim) => dim >= c.headDim)!;
  return { ...c, kvDtype: traits.dtype, headDim };
}

/** Rows of K and V as the kernel will read them, and where each lies in the buffers made for it. */
function operands(c: Case, seed: number) {
  const random = randomNumbers(seed);
  const { group, headDim, qo, kv, pageSize = 1, layout = "NHD", kvDtype = "float32" } = c;
  const columns = kvHeads * headDim;
  const rows = kv.reduce((sum, n) => sum + n, 0);
  const round = (values: Float32Array) => decode(encode(values, kvDtype), kvDtype);
  const keys = round(normals(random, rows * columns));
  const values = round(normals(random, rows * columns));
  const rowCount = qo.reduce((sum, n) => sum + n, 0);
  const asked = normals(random, rowCount * group * columns);
  const query = Float32Array.from(decode(encode(asked, queryDtype()), queryDtype()));
  const counts = kv.map((n) => Math.ceil(n / pageSize));
  const used = counts.reduce((sum, n) => sum + n, 0);
  const pageCount = used + 3;
  // Pages in descending order, so that no index equals its place.
  const indices = Int32Array.from({ length: used }, (_, i) => pageCount - 1 - i);
  const indptr = Int32Array.from([0, ...counts.map((_, b) => counts.slice(0, b + 1).reduce((s, n) => s + n, 0))]);
  const lastPageLen = Int32Array.from(kv, (n) => (n === 0 ? 0 : ((n - 1) % pageSize) + 1));
  const [page, slot, head] = pagedStrides(layout, pageSize, kvHeads, headDim);
  const step = c.combined ? 2 * page : page;
  const storage = new Float64Array(pageCount * step * (c.combined ? 1 : 2)).fill(3e4);
  const half = c.combined ? page : pageCount * page;
  let row = 0;
  kv.forEach((length, b) => {
    for (let p = 0; p < length; p++, row++) {
      const at = indices[indptr[b]! + Math.floor(p / pageSize)]! * step + (p % pageSize) * slot;
      for (let i = 0; i < columns; i++) {
        const to = at + Math.floor(i / headDim) * head + (i % headDim);
        storage[to] = keys[row * columns + i]!;
        storage[half + to] = values[row * columns + i]!;
      }
    }
  });
  return { keys, values, query, indices, indptr, lastPageLen, storage, pageCount, page, columns };
}

function queryDtype(): DType {
  return traits?.dtype ?? "float32";
}

function tensor(data: ArrayLike<number>, dtype: DType, shape: number[], extra: Partial<Tensor> = {}): Tensor {
  return { buffer: gpu.upload("tensor", encode(data, dtype) as Uint8Array<ArrayBuffer>), dtype, shape, ...extra };
}

function indptrOf(lengths: readonly number[]): Int32Array {
  return Int32Array.from([0, ...lengths.map((_, i) => lengths.slice(0, i + 1).reduce((s, n) => s + n, 0))]);
}

/** How an attention rounds inside: CUDA's prefill over 16 bits runs on tensor cores. */
function recipeOf({ kind, kvDtype = "float32", headDim }: Case): Recipe | undefined {
  if (!(gpu instanceof Cuda) || kind === "decode" || kvDtype === "float32") return undefined;
  const id = `operands-${kvDtype}-tiles-${headDim > 128 ? 32 : 64}`;
  return attentionRecipes.find((recipe) => recipe.id === id)!;
}

/** The spec's output: keys of unrecorded tokens and of the step's own rows, gathered into the row table's order. */
function specification(c: Case, o: ReturnType<typeof operands>): Expectation {
  const { group, headDim, qo, kv } = c;
  const live = qo.flatMap((n, b) => (n > 0 ? [b] : []));
  const step: Step = {
    step: 0,
    seqIds: live,
    tokenIds: new Int32Array(qo.reduce((s, n) => s + n, 0)),
    qoIndptr: indptrOf(live.map((b) => qo[b]!)),
    unrecorded: live.map((b) => kv[b]! - qo[b]!),
  };
  const table = new RowTable();
  const placed = table.append(step);
  const wide = group * o.columns;
  const q = new Float64Array(table.count * wide);
  const k = new Float64Array(table.count * o.columns);
  const v = new Float64Array(table.count * o.columns);
  q.set(o.query, placed.firstRow * wide);
  const kvStart = indptrOf(kv);
  live.forEach((b, i) => {
    placed.histories[i]!.forEach((row, p) => {
      const from = (kvStart[b]! + p) * o.columns;
      k.set(o.keys.subarray(from, from + o.columns), row * o.columns);
      v.set(o.values.subarray(from, from + o.columns), row * o.columns);
    });
  });
  const op = attention({
    heads: group * kvHeads,
    keyValueHeads: kvHeads,
    headDim,
    scale: 1 / Math.sqrt(headDim),
    softCap: c.softCap,
    windowLeft: c.windowLeft,
    lookAhead: c.causal || c.kind === "decode" ? 0 : Number.POSITIVE_INFINITY,
  });
  return expected(
    op,
    [
      { columns: wide, values: q },
      { columns: o.columns, values: k },
      { columns: o.columns, values: v },
    ],
    wide,
    {
      steps: [step],
      rows: Int32Array.from({ length: placed.rowCount }, (_, i) => placed.firstRow + i),
      // A library stores outputs in the type of its queries, and rounds operands to it.
      ...(traits ? { precision: { store: queryDtype(), compute: "float32" as const } } : { recipe: recipeOf(c) }),
    },
  );
}

async function run(c: Case, o: ReturnType<typeof operands>) {
  const { group, headDim, qo, kv, pageSize = 1, layout = "NHD", kvDtype = "float32" } = c;
  const plan = {
    heads: group * kvHeads,
    kvHeads,
    headDim,
    queryDtype: queryDtype(),
    kvDtype,
    pageSize,
    indptr: o.indptr,
    indices: o.indices,
    lastPageLen: o.lastPageLen,
    windowLeft: c.windowLeft ?? -1,
    softCap: c.softCap ?? 0,
    causal: c.causal ?? false,
    qoIndptr: indptrOf(qo),
  };
  const rows = qo.reduce((sum, n) => sum + n, 0);
  const query = tensor(o.query, queryDtype(), [rows, group * kvHeads, headDim]);
  if (c.kind === "ragged") {
    const wrapper = new BatchPrefillWithRaggedKVCache(gpu);
    wrapper.plan({ ...plan, kvIndptr: indptrOf(kv) });
    const shape = [o.keys.length / o.columns, kvHeads, headDim];
    return wrapper.run(query, tensor(o.keys, kvDtype, shape), tensor(o.values, kvDtype, shape));
  }
  const inner = layout === "NHD" ? [pageSize, kvHeads, headDim] : [kvHeads, pageSize, headDim];
  const both = tensor(o.storage, kvDtype, [o.pageCount, 2, ...inner]);
  const side = { ...both, shape: [o.pageCount, ...inner] };
  const cache = c.combined ? both : ([side, { ...side, offset: o.pageCount * o.page }] as const);
  const wrapper =
    c.kind === "decode" ? new BatchDecodeWithPagedKVCache(gpu, layout) : new BatchPrefillWithPagedKVCache(gpu, layout);
  wrapper.plan(plan);
  return wrapper.run(query, cache);
}

describe.each(backends)("%s", (_, open, its) => {
  beforeAll(async () => {
    traits = its;
    gpu = await open();
  });
  afterAll(() => gpu.destroy());

  describe("attention contract", () => {
    // A library knows no heads beyond those that its modules were built for.
    const known = cases.filter((c) => !its || its.headDims.some((dim) => dim >= c.headDim));
    test.each(known.map((c, i) => [i, JSON.stringify(c), c] as const))("%i %s", async (i, _name, c) => {
      const own = taken(c);
      const o = operands(own, 100 + i);
      if (traits && c.kind === "decode" && !traits.decodeGroups.includes(c.group)) {
        await expect(run(own, o)).rejects.toThrow(`group size ${c.group}: FlashInfer's decode kernel takes`);
        return;
      }
      const { output } = await run(own, o);
      expectRounding(await gpu.readFloats(output, 0, o.query.length), specification(own, o), "output");
    });

    test("empty sequences give 0 and -infinity; more queries than keys leave the first rows empty", async () => {
      const c = taken({
        kind: "paged",
        pageSize: 16,
        group: 2,
        headDim: 64,
        qo: [2, 3],
        kv: [0, 2],
        causal: true,
        kvDtype: "float16",
      });
      const o = operands(c, 5);
      const { output, lse } = await run(c, o);
      const values = await gpu.readFloats(output, 0, 5 * 4 * 64);
      expect(values.subarray(0, 3 * 4 * 64).every((x) => x === 0)).toBe(true);
      const logs = await gpu.readFloats(lse, 0, 5 * 4);
      expect(logs.subarray(0, 12).every((x) => x === Number.NEGATIVE_INFINITY)).toBe(true);
      // Row 3 sees one key: its output is that key's value.
      const single = values.subarray(3 * 4 * 64, 3 * 4 * 64 + 64);
      expect([...single]).toEqual([...o.values.subarray(0, 64)].map(Math.fround));
    });

    test("the log-sum-exp of one key is its score in base 2", async () => {
      for (const kind of ["decode", "paged", "ragged"] as const) {
        const c = taken({ kind, pageSize: 5, group: 2, headDim: 16, qo: [1, 1], kv: [1, 1] });
        const { headDim } = c;
        const o = operands(c, 9);
        const { lse } = await run(c, o);
        const found = await gpu.readFloats(lse, 0, 8);
        for (let i = 0; i < 8; i++) {
          const key = (Math.floor(i / 4) * kvHeads + Math.floor((i % 4) / 2)) * headDim;
          let score = 0;
          for (let d = 0; d < headDim; d++) score += o.query[i * headDim + d]! * o.keys[key + d]!;
          expect(found[i], `${kind} ${i}`).toBeCloseTo((score / Math.sqrt(headDim)) * Math.LOG2E, 5);
        }
      }
    });

    test("attention over two halves of the keys, merged, is attention over all", async () => {
      const c = taken({ kind: "ragged", group: 2, headDim: 16, qo: [3], kv: [20] });
      const { headDim } = c;
      const o = operands(c, 8);
      const halves = await Promise.all(
        [0, 10].map((first) => {
          const part = (rows: Float64Array) => rows.slice(first * o.columns, (first + 10) * o.columns);
          return run({ ...c, kv: [10] }, { ...o, keys: part(o.keys), values: part(o.values) });
        }),
      );
      const heads = 2 * kvHeads;
      const states = new Float32Array(3 * 2 * heads * headDim);
      const logs = new Float32Array(3 * 2 * heads);
      for (const [half, { output, lse }] of halves.entries()) {
        const values = await gpu.readFloats(output, 0, 3 * heads * headDim);
        const sums = await gpu.readFloats(lse, 0, 3 * heads);
        for (let row = 0; row < 3; row++) {
          const from = row * heads;
          const to = (row * 2 + half) * heads;
          states.set(values.subarray(from * headDim, (from + heads) * headDim), to * headDim);
          logs.set(sums.subarray(from, from + heads), to);
        }
      }
      const merged = await mergeStates(gpu, tensor(states, "float32", [3, 2, heads, headDim]), {
        buffer: gpu.upload("lse", logs),
        shape: [3, 2, heads],
      });
      expectRounding(await gpu.readFloats(merged.output, 0, 3 * heads * headDim), specification(c, o), "merged");
    });

    test("merging states by hand, empty ones included", async () => {
      const random = randomNumbers(3);
      const v = normals(random, 2 * 3 * 16);
      const s = Float32Array.of(
        0.5,
        -1,
        Number.NEGATIVE_INFINITY,
        2,
        Number.NEGATIVE_INFINITY,
        Number.NEGATIVE_INFINITY,
      );
      const merged = await mergeStates(gpu, tensor(v, "float32", [2, 3, 1, 16]), {
        buffer: gpu.upload("s", s),
        shape: [2, 3, 1],
      });
      const out = await gpu.readFloats(merged.output, 0, 32);
      const lse = await gpu.readFloats(merged.lse, 0, 2);
      const total = 2 ** 0.5 + 2 ** -1;
      expect(lse[0]).toBeCloseTo(Math.log2(total), 5);
      expect(lse[1]).toBeCloseTo(2, 6);
      for (let i = 0; i < 16; i++) {
        expect(out[i]).toBeCloseTo((v[i]! * 2 ** 0.5 + v[16 + i]! * 2 ** -1) / total, 5);
        expect(out[16 + i]).toBeCloseTo(v[48 + i]!, 6);
      }
    });

    test("append writes absolute positions, and nothing else", async () => {
      const table = {
        indptr: Int32Array.of(0, 2, 3),
        indices: Int32Array.of(3, 1, 0),
        lastPageLen: Int32Array.of(1, 2),
        pageSize: 2,
      };
      const before = new Float32Array(4 * 2 * 16).fill(-7);
      const cache = [tensor(before, "bfloat16", [4, 2, 1, 16]), tensor(before, "bfloat16", [4, 2, 1, 16])] as const;
      const rows = Float32Array.from({ length: 48 }, (_, i) => 1 + Math.floor(i / 16));
      const key = tensor(rows, "float32", [3, 1, 16]);
      await appendPagedKVCache(gpu, {
        key,
        value: key,
        batchIndices: Int32Array.of(0, 1, 0),
        positions: Int32Array.of(2, 1, 0),
        cache,
        table,
      });
      const after = decode(new Uint8Array(await gpu.read(cache[0].buffer)), "bfloat16");
      const slots = Array.from({ length: 8 }, (_, slot) => after[slot * 16]);
      // Position 2 of sequence 0 is slot 0 of page 1; position 1 of sequence 1 slot 1 of page 0; position 0 slot 0 of page 3.
      expect(slots).toEqual([-7, 2, 1, -7, -7, -7, 3, -7]);
    });

    test("append writes values where a packed cache has them", async () => {
      const cache = tensor(new Float32Array(2 * 2 * 2 * 16), "float32", [2, 2, 2, 1, 16]);
      const key = tensor(new Float32Array(16).fill(1), "float32", [1, 1, 16]);
      const value = tensor(new Float32Array(16).fill(2), "float32", [1, 1, 16]);
      await appendPagedKVCache(gpu, {
        key,
        value,
        batchIndices: Int32Array.of(0),
        positions: Int32Array.of(1),
        cache,
        table: { indptr: Int32Array.of(0, 1), indices: Int32Array.of(1), lastPageLen: Int32Array.of(2), pageSize: 2 },
      });
      const after = await gpu.readFloats(cache.buffer);
      const rows = Array.from({ length: 8 }, (_, row) => after[row * 16]);
      // [page, K or V, place]
      expect(rows).toEqual([0, 0, 0, 0, 0, 1, 0, 2]);
    });
  });

  describe("arguments that do not fit are refused before any dispatch", () => {
    const good = {
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      kvDtype: "float32" as DType,
      pageSize: 4,
      indptr: Int32Array.of(0, 1, 3),
      indices: Int32Array.of(2, 0, 1),
      lastPageLen: Int32Array.of(4, 2),
    };
    const query = () => tensor(new Float32Array(2 * 4 * 16), "float32", [2, 4, 16]);
    const pages = () => tensor(new Float32Array(3 * 4 * 2 * 16), "float32", [3, 4, 2, 16]);

    test.each([
      [
        "int64 indices",
        { indices: BigInt64Array.of(2n, 0n, 1n) as unknown as Int32Array },
        /kv_indices: expected int32/,
      ],
      [
        "a short index array",
        { indices: Int32Array.of(2, 0) },
        /kv_indices: expected kv_indptr\[2\] = 3 entries, found 2/,
      ],
      ["a falling indptr", { indptr: Int32Array.of(0, 4, 3) }, /kv_indptr\[2\]: 3 is less than/],
      ["an indptr that starts late", { indptr: Int32Array.of(1, 1, 3) }, /kv_indptr\[0\]: expected 0/],
      ["a negative page", { indices: Int32Array.of(2, -1, 1) }, /kv_indices\[1\]: page -1/],
      ["an overfull last page", { lastPageLen: Int32Array.of(4, 5) }, /kv_last_page_len\[1\]: expected 1 … 4, found 5/],
      ["an empty last page", { lastPageLen: Int32Array.of(0, 2) }, /kv_last_page_len\[0\]: expected 1 … 4, found 0/],
      ["heads that do not group", { heads: 5 }, /num_qo_heads 5 is not a multiple/],
      ["a group of nine", { heads: 18 }, /group size 9/],
      ["an odd head_dim", { headDim: 20 }, /head_dim 20/],
    ])("%s", (_name, change, message) => {
      expect(() => new BatchDecodeWithPagedKVCache(gpu).plan({ ...good, ...change })).toThrow(message);
    });

    test("operands that differ from the plan, and views kernels cannot honour", async () => {
      const wrapper = new BatchDecodeWithPagedKVCache(gpu);
      const attempt = async (q: Tensor, k: Tensor) => wrapper.run(q, [k, k]);
      await expect(attempt(query(), pages())).rejects.toThrow("run() before plan()");
      wrapper.plan(good);
      await expect(attempt({ ...query(), shape: [3, 4, 16] }, pages())).rejects.toThrow(
        /q: expected shape \[2, 4, 16\]/,
      );
      await expect(attempt({ ...query(), dtype: "bfloat16" }, pages())).rejects.toThrow(/the plan says float32/);
      await expect(attempt(query(), { ...pages(), dtype: "float16" })).rejects.toThrow(/the plan says float32/);
      await expect(attempt(query(), { ...pages(), strides: [128, 32, 4, 1] })).rejects.toThrow(/multiples of 8/);
      await expect(attempt(query(), { ...pages(), strides: [128, 32, 16, 2] })).rejects.toThrow(
        /stride 1 on the last axis/,
      );
      await expect(attempt(query(), { ...pages(), offset: 64 })).rejects.toThrow(/its view needs/);
      await expect(attempt(query(), { ...pages(), shape: [2, 4, 2, 16] })).rejects.toThrow(/page 2 is not in 0 … 1/);
      expect(() => new BatchDecodeWithPagedKVCache(gpu, "NDH" as "NHD")).toThrow("neither NHD nor HND");
    });
  });
});

test("on WebGPU with loops unrolled, as on a real GPU, kernels give the same", async () => {
  traits = undefined;
  gpu = await openTestDevice({ unroll: true });
  const some = cases.filter(({ kind, group }) => (kind === "decode" && group === 1) || kind === "ragged");
  for (const [i, c] of some.entries()) {
    const o = operands(c, 200 + i);
    const { output } = await run(c, o);
    expectRounding(await gpu.readFloats(output, 0, o.query.length), specification(c, o), JSON.stringify(c));
  }
  gpu.destroy();
});
