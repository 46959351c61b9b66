import { describe, expect, it } from "vitest";
import type { Batch } from "../../src/engine/run/batch.js";
import type { DecodeOptions } from "../../src/engine/run/path.js";
import { validateBatch } from "../../src/engine/run/validate-batch.js";

const limits = {
  pageCount: 8,
  pageSize: 4,
  maxRows: 8,
  maxSequences: 2,
  config: { vocabularySize: 32, maxPositions: 64 },
};

/** Two sequences: three rows after two cached tokens on pages 5 and 1, one row on page 7. */
const batch: Batch = {
  seqIds: [0, 1],
  tokenIds: Int32Array.of(1, 2, 3, 4),
  positions: Int32Array.of(2, 3, 4, 0),
  slotMapping: Int32Array.of(22, 23, 4, 28),
  qoIndptr: Int32Array.of(0, 3, 4),
  kvIndptr: Int32Array.of(0, 2, 3),
  kvIndices: Int32Array.of(5, 1, 7),
  kvLastPageLen: Int32Array.of(1, 1),
  pageSize: 4,
};

/** One row each, and five more tokens to come. */
const decode: Batch = {
  ...batch,
  tokenIds: Int32Array.of(3, 4),
  positions: Int32Array.of(4, 0),
  slotMapping: Int32Array.of(4, 28),
  qoIndptr: Int32Array.of(0, 1, 2),
};
const flight: DecodeOptions = { steps: 6, reserve: [[2, 3], [0]] };

describe("a batch is checked before anything is dispatched", () => {
  it("gives the keys of each sequence", () => {
    expect([...validateBatch(batch, limits)]).toEqual([5, 1]);
    expect([
      ...validateBatch(decode, limits, {
        ...flight,
        reserve: [
          [2, 3],
          [0, 4],
        ],
      }),
    ]).toEqual([5, 1]);
  });

  it.each<[string, Partial<Batch>, RegExp]>([
    ["no sequence", { seqIds: [] }, /at least one sequence/],
    ["more rows than fit", { tokenIds: new Int32Array(9) }, /9 rows, at most 8 fit/],
    ["more sequences than fit", { seqIds: [0, 1, 2] }, /3 sequences, at most 2 fit/],
    ["another page size", { pageSize: 5 }, /pageSize: expected 4, found 5/],
    ["a page that is not there", { kvIndices: Int32Array.of(5, 8, 7) }, /indices\[1\]/],
    ["a last page that is too full", { kvLastPageLen: Int32Array.of(5, 1) }, /last_page_len\[0\]/],
    ["an indptr that falls", { kvIndptr: Int32Array.of(0, 4, 3) }, /indptr/],
    ["row bounds that do not reach the end", { qoIndptr: Int32Array.of(0, 3, 5) }, /qoIndptr: expected to run from 0/],
    ["a sequence without a row", { qoIndptr: Int32Array.of(0, 4, 4) }, /qoIndptr\[2\]: expected more than 4/],
    ["rows that the table lacks", { qoIndptr: Int32Array.of(0, 2, 4) }, /sequence 1 has 2 rows but only 1 keys/],
    ["a token outside the vocabulary", { tokenIds: Int32Array.of(1, 32, 3, 4) }, /tokenIds\[1\]: 32 is not in 0 … 31/],
    ["a position too few", { positions: Int32Array.of(2, 3, 4) }, /positions: expected 4 entries, found 3/],
    ["a negative position", { positions: Int32Array.of(2, -1, 4, 0) }, /positions\[1\]: -1/],
    ["a slot beyond the cache", { slotMapping: Int32Array.of(22, 23, 32, 28) }, /slotMapping\[2\]: 32/],
    [
      "positions of another type",
      { positions: [2, 3, 4, 0] as unknown as Int32Array },
      /positions: expected an Int32Array/,
    ],
  ])("refuses %s", (_, change, says) => {
    expect(() => validateBatch({ ...batch, ...change }, limits)).toThrow(says);
  });

  it.each<[string, Partial<DecodeOptions>, RegExp]>([
    ["no steps", { steps: 0 }, /steps: 0 is not positive/],
    ["a list of pages too few", { reserve: [[2, 3]] }, /expected one list for each of 2/],
    ["too few pages", { reserve: [[], [0, 4]] }, /reserve\[0\]: 2 pages hold 8 tokens, 10 are needed/],
    [
      "a reserved page that is not there",
      {
        reserve: [
          [2, 8],
          [0, 4],
        ],
      },
      /reserve\[0\]\[1\]: 8 is not in 0 … 7/,
    ],
    [
      "a hole in a list",
      {
        reserve: [
          [2, undefined as unknown as number],
          [0, 4],
        ],
      },
      /undefined is not in 0 … 7/,
    ],
    [
      "half a page",
      {
        reserve: [
          [2, 3],
          [0.5, 4],
        ],
      },
      /0\.5 is not in 0 … 7/,
    ],
  ])("refuses to decode ahead with %s", (_, change, says) => {
    expect(() => validateBatch(decode, limits, { ...flight, ...change })).toThrow(says);
  });

  it("refuses to decode ahead a batch with several rows a sequence", () => {
    expect(() => validateBatch(batch, limits, flight)).toThrow(/one row per sequence/);
  });
});
