import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { StepEvent } from "../../src/capture/format.js";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { CaptureWriter } from "../../src/capture/writer.js";
import { encode } from "../../src/tensor/dtype.js";
import { writeTinyModel } from "./tiny-run.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-padded-directory-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const model = writeTinyModel(join(folder, "model"));
const hidden = 16;

/** Two sequences padded on the left to four columns: places 3 and 4 to 7 are tokens. */
const padded: StepEvent = {
  event: "step",
  step: 0,
  seq_ids: [0, 1],
  token_ids: [9, 1, 2, 3, 4],
  qo_indptr: [0, 1, 5],
  positions: [0, 0, 1, 2, 3],
  padded: [2, 4],
  row_map: [3, 4, 5, 6, 7],
  page_size: 4,
  slot_mapping: [3, 4, 5, 6, 7],
  kv_runs: [[[3, 1]], [[4, 4]]],
};
/** The token after, of both; each sequence's keys stand in a page of five columns. */
const next: StepEvent = {
  event: "step",
  step: 1,
  seq_ids: [0, 1],
  token_ids: [5, 6],
  qo_indptr: [0, 1, 2],
  positions: [1, 4],
  page_size: 5,
  slot_mapping: [4, 9],
  kv_runs: [[[3, 2]], [[5, 5]]],
};

let count = 0;
function record(...steps: StepEvent[]): string {
  const path = join(folder, `run${count++}`);
  const writer = new CaptureWriter(path, {});
  for (const step of steps) {
    writer.step(step);
    const [sequences, columns] = step.padded ?? [2, 1];
    const values = Float64Array.from({ length: sequences * columns * hidden }, (_, i) => Math.floor(i / hidden));
    const shape = [sequences, columns, hidden];
    const view = { storage: "s0", epoch: 0, dtype: "float32" as const, offset: 0 };
    const dense = { ...view, shape, strides: [columns * hidden, hidden, 1] };
    writer.dense("model.embed_tokens", "output", dense, encode(values, "float32"));
  }
  writer.finishStep();
  return path;
}

describe("a padded batch in a directory", () => {
  it("has rows for its tokens alone, at their places", () => {
    const observations = new CaptureObservations(openCapture(record(padded, next)), model.graph);
    const places = Array.from({ length: 7 }, (_, row) => observations.output("model.embed_tokens", row)!.value[0]);
    expect(places).toEqual([3, 4, 5, 6, 7, 0, 1]);
    expect(observations.rows.rotary).toBe("counts");
    expect(observations.rows.columnOf(5)).toBe(4);
  });

  it("reads keys where the runs say they lie", () => {
    const observations = new CaptureObservations(openCapture(record(padded, next)), model.graph);
    expect([0, 1, 2].map((position) => observations.readSlot(1, 0, position))).toEqual([3, 4, undefined]);
    expect(observations.readSlot(1, 1, 4)).toBe(9);
  });

  it("is known to count columns where its positions do, over all steps", () => {
    const columns = [
      { ...padded, positions: [3, 0, 1, 2, 3] },
      { ...next, positions: [4, 4] },
    ];
    expect(new CaptureObservations(openCapture(record(...columns)), model.graph).rows.rotary).toBe("columns");
  });

  it.each([
    ["padded without a row map", { ...padded, row_map: undefined }, /expected padded and row_map together/],
    ["another number of sequences", { ...padded, padded: [3, 4] }, /padded: expected the step's 2 sequences, found 3/],
    ["a short row map", { ...padded, row_map: [3, 4] }, /row_map: expected a place for each of 5 rows, found 2/],
    [
      "a gap between tokens",
      { ...padded, row_map: [3, 4, 5, 7, 6] },
      /row_map: expected the rows of sequence 1 side by/,
    ],
    ["another sequence's place", { ...padded, row_map: [4, 4, 5, 6, 7] }, /sequence 0 .* places 0 to 3, found 4/],
    ["more places than rows may be", { ...padded, padded: [2, 2 ** 22] }, /padded: expected at most 4194304 places/],
  ])("is refused with one sentence: %s", (_, step, message) => {
    expect(() => openCapture(withStep(step as StepEvent))).toThrow(message);
  });
});

/** A recording whose padded step is this one. */
function withStep(step: StepEvent): string {
  const path = join(folder, `run${count++}`);
  const writer = new CaptureWriter(path, {});
  writer.step(step);
  const view = {
    storage: "s0",
    epoch: 0,
    dtype: "float32" as const,
    offset: 0,
    shape: [8, hidden],
    strides: [hidden, 1],
  };
  writer.dense("model.embed_tokens", "output", view, encode(new Float64Array(8 * hidden), "float32"));
  writer.finishStep();
  return path;
}

describe("views that begin at different elements of a storage", () => {
  it("have bytes of their own", () => {
    const path = join(folder, "offsets");
    const writer = new CaptureWriter(path, {});
    writer.step({ event: "step", step: 0, seq_ids: [0], token_ids: [1], qo_indptr: [0, 1] });
    for (const [name, offset] of [
      ["model.embed_tokens", 0],
      ["model.layers.0.input_layernorm", hidden],
    ] as const) {
      const view = {
        storage: "s0",
        epoch: 0,
        dtype: "float32" as const,
        shape: [1, hidden],
        strides: [hidden, 1],
        offset,
      };
      writer.dense(name, "output", view, encode(new Float64Array(hidden).fill(offset), "float32"));
    }
    writer.finishStep();
    const observations = new CaptureObservations(openCapture(path), model.graph);
    expect(observations.output("model.embed_tokens", 0)!.value[0]).toBe(0);
    expect(observations.output("model.layers.0.input_layernorm", 0)!.value[0]).toBe(hidden);
  });
});
