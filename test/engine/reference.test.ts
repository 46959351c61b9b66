import { describe, expect, it } from "vitest";
import { ReferencePath } from "../../src/engine/reference/reference-path.js";
import type { Batch } from "../../src/engine/run/batch.js";
import { generate } from "../../src/engine/serve/generation.js";
import { certainSteps, goldenGenerations, openIshmael } from "./ishmael.js";

const { config, parameters } = openIshmael();

describe("the reference path", () => {
  it("continues five prompts as Hugging Face does in float32", async () => {
    const golden = goldenGenerations();
    const path = new ReferencePath({ config, parameters, pageCount: 48, pageSize: 16 });
    const results = await generate(
      path,
      golden.map(({ prompt_ids }) => ({ tokenIds: prompt_ids, maxTokens: 48 })),
    );
    golden.forEach((generation, i) => {
      const certain = certainSteps(generation);
      expect(certain).toBeGreaterThan(0);
      expect(results[i]!.tokenIds.slice(0, certain)).toEqual(generation.greedy_ids.slice(0, certain));
      expect(results[i]!.tokenIds).toHaveLength(48);
    });
  });
});

describe("a batch that contradicts itself", () => {
  const path = new ReferencePath({ config, parameters, pageCount: 4, pageSize: 2 });
  const good: Batch = {
    seqIds: [5],
    tokenIds: Int32Array.of(1, 2, 3),
    qoIndptr: Int32Array.of(0, 3),
    positions: Int32Array.of(0, 1, 2),
    kvIndptr: Int32Array.of(0, 2),
    kvIndices: Int32Array.of(3, 1),
    kvLastPageLen: Int32Array.of(1),
    slotMapping: Int32Array.of(6, 7, 2),
    pageSize: 2,
  };

  it.each([
    ["a page out of range", { kvIndices: Int32Array.of(3, 4) }, /indices\[1\]/],
    ["a token out of range", { tokenIds: Int32Array.of(1, 2, 4096) }, /tokenIds\[2\]/],
    ["too few positions", { positions: Int32Array.of(0, 1) }, /positions: expected 3/],
    [
      "positions that the lengths do not imply",
      { positions: Int32Array.of(1, 2, 3) },
      /positions\[0\]: expected 0, found 1/,
    ],
    ["a slot outside the page table", { slotMapping: Int32Array.of(6, 7, 0) }, /slotMapping\[2\]: expected 2, found 0/],
    ["a last page longer than a page", { kvLastPageLen: Int32Array.of(3) }, /last_page_len/],
    ["fewer keys than rows", { kvIndptr: Int32Array.of(0, 1), kvIndices: Int32Array.of(3) }, /only 1 keys/],
    ["another page size", { pageSize: 4 }, /pageSize: expected 2, found 4/],
  ])("is refused: %s", async (_, change, message) => {
    await expect(path.forward({ ...good, ...change })).rejects.toThrow(message);
  });

  it("is not refused when it is right", async () => {
    const { tokenIds, finite, logits } = await path.forward(good, { logits: true });
    expect(finite).toEqual([true]);
    expect(logits).toHaveLength(config.vocabularySize);
    expect(tokenIds[0]).toBe(logits!.indexOf(Math.max(...logits!)));
  });

  it("is refused when a run has not the pages for its steps", async () => {
    const single = { ...good, tokenIds: Int32Array.of(3), qoIndptr: Int32Array.of(0, 1), positions: Int32Array.of(2) };
    const batch = { ...single, slotMapping: Int32Array.of(2) };
    await expect(path.decode(batch, { steps: 3, reserve: [[]] })).rejects.toThrow(/reserve\[0\]/);
    expect(await path.decode(batch, { steps: 3, reserve: [[0]] })).toHaveLength(3);
  });
});
