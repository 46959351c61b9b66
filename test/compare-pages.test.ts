import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openCapture } from "../src/capture/reader.js";
import { CaptureWriter } from "../src/capture/writer.js";
import { compareCaptures } from "../src/compare/compare.js";
import { randomGenerator } from "../src/diagnose/bits/sample.js";
import { comparisonText } from "../src/report/comparison.js";
import { encode } from "../src/tensor/dtype.js";
import { InputError } from "../src/tensor/errors.js";

let folder: string;
let files = 0;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "faultline-pages-"));
});
afterAll(() => rmSync(folder, { recursive: true }));

const name = "model.layers.0.self_attn.k_cache";
const [heads, headDim] = [2, 4];
/** Two sequences of six and three keys. */
const lengths = [6, 3];

interface Pool {
  readonly layout: "NHD" | "HND";
  readonly pageSize: number;
  /** Physical pages of each sequence. */
  readonly pages: readonly (readonly number[])[];
  /** What unused slots hold. */
  readonly rubbish: number;
  /** Key of a sequence at a position, by column. */
  readonly key?: (sequence: number, position: number, column: number) => number;
}

const plainKey = (sequence: number, position: number, column: number) => sequence * 4 + position / 2 + column / 16;

function record({ layout, pageSize, pages, rubbish, key = plainKey }: Pool, table = true): string {
  const path = join(folder, `${files++}`);
  const writer = new CaptureWriter(path, {});
  const last = pages.map((own, b) => lengths[b]! - (own.length - 1) * pageSize);
  const step = {
    event: "step" as const,
    step: 0,
    seq_ids: [7, 9],
    token_ids: Array.from({ length: 9 }, (_, i) => i),
    qo_indptr: [0, 6, 9],
  };
  const csr = {
    kv_indptr: [0, pages[0]!.length, pages[0]!.length + pages[1]!.length],
    kv_indices: pages.flat(),
    kv_last_page_len: last,
    page_size: pageSize,
  };
  writer.step(table ? { ...step, ...csr } : step);
  const strides = layout === "NHD" ? [0, heads * headDim, headDim, 1] : [0, headDim, pageSize * headDim, 1];
  const pageElements = pageSize * heads * headDim;
  const view = {
    storage: "pool",
    epoch: 1,
    dtype: "float32" as const,
    layout,
    page_size: pageSize,
    heads,
    head_dim: headDim,
    strides: [pageElements, ...strides.slice(1)],
    offset: 0,
    pages: pages.flat(),
  };
  writer.paged(name, "output", view, (page) => {
    const values = new Float64Array(pageElements).fill(rubbish);
    const sequence = pages.findIndex((own) => own.includes(page));
    const first = pages[sequence]!.indexOf(page) * pageSize;
    for (let slot = 0; slot < pageSize && first + slot < lengths[sequence]!; slot++) {
      for (let column = 0; column < heads * headDim; column++) {
        const at = slot * strides[1]! + Math.floor(column / headDim) * strides[2]! + (column % headDim);
        values[at] = key(sequence, first + slot, column);
      }
    }
    return encode(values, "float32");
  });
  writer.finishStep();
  return path;
}

function compare(reference: string, target: string) {
  const a = openCapture(reference);
  try {
    const b = openCapture(target);
    try {
      return compareCaptures(a, b);
    } finally {
      b.close();
    }
  } finally {
    a.close();
  }
}

const reference: Pool = { layout: "NHD", pageSize: 4, pages: [[5, 2], [9]], rubbish: 1e6 };

describe("KV pages", () => {
  it("are compared by token: other pages, page size, layout and rubbish make no difference", () => {
    const result = compare(
      record(reference),
      record({
        layout: "HND",
        pageSize: 2,
        pages: [
          [8, 1, 3],
          [4, 6],
        ],
        rubbish: Number.NaN,
      }),
    );
    expect(result.values[0]!).toMatchObject({
      state: "same",
      elements: 9 * heads * headDim,
      notes: ["layout NHD / HND"],
    });
    expect(result.same).toBe(true);
  });

  it("give the place of a wrong key as sequence, position and column", () => {
    const key = (sequence: number, position: number, column: number) =>
      sequence === 1 && position === 2 && column === 5 ? 99 : plainKey(sequence, position, column);
    const value = compare(record(reference), record({ ...reference, key })).values[0]!;
    expect(value).toMatchObject({ state: "differs", differing: 1, maxAt: [1, 2, 5], maxTarget: 99 });
  });

  it("without a page table are compared by page number, and it says so", () => {
    const value = compare(record(reference, false), record(reference, false)).values[0]!;
    expect(value.state).toBe("same");
    expect(value.notes).toEqual(["no page table: pages compared by their number, unused slots included"]);
  });
});

describe("mutated captures", () => {
  it("give a result or one sentence, never a crash", () => {
    const good = record(reference);
    const random = randomGenerator(11);
    const lines = readFileSync(join(good, "events.jsonl"), "utf8");
    const outcomes = { compared: 0, refused: 0 };
    for (let i = 0; i < 300; i++) {
      const mutated = record(reference);
      const numbers = [...lines.matchAll(/\d+/g)];
      const chosen = numbers[Math.floor(random() * numbers.length)]!;
      const replacement = ["0", "1", "3", "-1", "70000", "1048576", "1099511627776", "0.5"][Math.floor(random() * 8)]!;
      const text = lines.slice(0, chosen.index) + replacement + lines.slice(chosen.index + chosen[0].length);
      writeFileSync(join(mutated, "events.jsonl"), text);
      try {
        const [a, b] = random() < 0.5 ? [good, mutated] : [mutated, good];
        expect(comparisonText(compare(a, b), { colors: false })).toContain("reference");
        outcomes.compared++;
      } catch (error) {
        expect(error).toBeInstanceOf(InputError);
        expect((error as Error).message).not.toContain("\n");
        outcomes.refused++;
      }
    }
    expect(outcomes.compared).toBeGreaterThan(30);
    expect(outcomes.refused).toBeGreaterThan(30);
  });

  it("a view that repeats its bytes without end is refused", () => {
    const path = join(folder, "endless");
    const writer = new CaptureWriter(path, {});
    writer.step({ event: "step", step: 0, seq_ids: [0], token_ids: [1], qo_indptr: [0, 1] });
    const view = { storage: "s", epoch: 0, dtype: "float32" as const, shape: [2 ** 40, 1], strides: [0, 1], offset: 0 };
    writer.dense("model.norm", "output", view, encode([1], "float32"));
    writer.finishStep();
    expect(() => compare(path, path)).toThrow(/more than 1024 times/);
  });
});
