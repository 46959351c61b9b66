import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { PagedView } from "../../src/capture/format.js";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { CaptureWriter } from "../../src/capture/writer.js";
import { compareCaptures } from "../../src/compare/compare.js";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { encode } from "../../src/tensor/dtype.js";
import { InputError } from "../../src/tensor/errors.js";
import { CacheRuns, changeEvents } from "./cache-runs.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-combined-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const runs = new CacheRuns(folder);
const { model } = runs;
const half = 4 * 2 * 16;

describe("K and V in one storage", () => {
  it.each([
    ["NHD", "page"],
    ["HND", "page"],
    ["NHD", "buffer"],
    ["HND", "buffer"],
  ] as const)("%s, one %s: a correct run has no finding", async (layout, combined) => {
    const path = runs.record({ layout, combined });
    const capture = openCapture(path);
    const [k, v] = capture.records.filter(({ name }) => /layers\.0\..*_cache$/.test(name));
    expect(k!.view.storage).toBe(v!.view.storage);
    expect(v!.view.offset).toBeGreaterThan(0);
    const observations = new CaptureObservations(capture, model.graph);
    for (let row = 0; row < observations.rows.count; row++) {
      for (const [cached, produced] of [
        ["k_cache", "k_rope"],
        ["v_cache", "v_proj"],
      ]) {
        const name = `model.layers.1.self_attn.${cached}`;
        const read = observations.row(name, row, "model.layers.1.self_attn.o_proj.input", 2);
        expect(read!.value).toEqual(observations.output(`model.layers.1.self_attn.${produced}`, row)!.value);
        expect(observations.output(name, row)!.value).toEqual(read!.value);
      }
    }
    capture.close();
    const verdict = await diagnose({ target: path, model: model.directory, quick: true });
    expect(verdict.causes).toEqual([]);
    expect(verdict.verdict).toBe("clean");
    expect(verdict.audits.cache.evidence).toContain("equal what was appended, bit for bit");
  });

  it("compares alike with a run whose caches lie apart", async () => {
    const captures = [runs.record(), runs.record({ combined: "page", layout: "HND" })].map(openCapture);
    const { values } = compareCaptures(captures[0]!, captures[1]!, { graph: model.graph });
    const caches = values.filter(({ name }) => name.endsWith("_cache"));
    expect(caches.length).toBe(24);
    for (const { elements, differing } of caches) expect([elements > 0, differing]).toEqual([true, 0]);
    for (const capture of captures) capture.close();
  });

  it("one page: keys read where the values lie are a wrong offset", async () => {
    const path = runs.record({ combined: "page" });
    changeEvents(path, (event) => {
      if (event.role === "input" && event.name === "model.layers.1.self_attn.k_cache") event.view.offset = half;
      return event;
    });
    const cause = (await diagnose({ target: path, model: model.directory, quick: true })).causes.find(
      (c) => c.cause === "offset-mismatch",
    );
    expect(cause).toMatchObject({ kind: "seam", transform: "T2", parameters: { written: 0, read: half } });
    expect(cause!.units.every((unit) => unit.endsWith("k_cache"))).toBe(true);
  });

  it("one buffer: values read where the keys lie are a wrong offset", async () => {
    const path = runs.record({ combined: "buffer" });
    changeEvents(path, (event) => {
      if (event.role === "input" && event.name === "model.layers.1.self_attn.v_cache") event.view.offset = 0;
      return event;
    });
    const { causes } = await diagnose({ target: path, model: model.directory, quick: true });
    expect(causes.map(({ cause }) => cause)).toContain("offset-mismatch");
  });

  it("pages written NHD and read HND are named as such", async () => {
    const path = runs.record({ combined: "page" });
    changeEvents(path, (event) => {
      if (event.role === "input" && event.view.pages)
        Object.assign(event.view, { layout: "HND", strides: [2 * half, 16, 64, 1] });
      return event;
    });
    const { causes } = await diagnose({ target: path, model: model.directory, quick: true });
    expect(causes[0]).toMatchObject({ cause: "layout-mismatch", parameters: { written: "NHD", read: "HND" } });
  });
});

describe("offsets of paged views", () => {
  const view: PagedView = {
    storage: "s",
    epoch: 0,
    dtype: "float32",
    layout: "NHD",
    page_size: 2,
    heads: 2,
    head_dim: 16,
    strides: [64, 32, 16, 1],
    offset: 0,
    pages: [1],
  };
  let count = 0;

  /** A capture of one token and KV pages as the views address them. */
  function record(views: Partial<PagedView>[], bytesOf: (page: number) => number[], elements = 64): string {
    const path = join(folder, `offset-${count++}`);
    const writer = new CaptureWriter(path, {});
    const pages = { kv_indptr: [0, 1], kv_indices: [1], kv_last_page_len: [1], slot_mapping: [2], page_size: 2 };
    writer.step({ event: "step", step: 0, seq_ids: [1], token_ids: [3], qo_indptr: [0, 1], ...pages });
    views.forEach((changed, i) => {
      const name = `model.layers.0.self_attn.${i === 0 ? "k" : "v"}_cache`;
      const bytes = (page: number) => encode(bytesOf(page).slice(0, elements), "float32");
      writer.paged(name, "output", { ...view, ...changed }, bytes);
    });
    writer.finishStep();
    return path;
  }
  const ascending = (page: number) => Array.from({ length: 128 }, (_, i) => 1000 * page + i);

  it("lead into the page, or over whole pages to the view's own", async () => {
    const path = record(
      [
        { strides: [128, 32, 16, 1], offset: 64 },
        { offset: 5 * 64 + 32, page_size: 1 },
      ],
      ascending,
      128,
    );
    const capture = openCapture(path);
    expect(
      capture.records.map((record) => [...("pages" in record ? record.pages.values() : [])][0]!.entry.name),
    ).toEqual(["s@0/p1", "s@0/p6"]);
    const observations = new CaptureObservations(capture, model.graph);
    const first = (side: string) => observations.output(`model.layers.0.self_attn.${side}_cache`, 0)?.value[0];
    expect([
      first("k"),
      observations.slotRow(observations.pagedRecords("model.layers.0.self_attn.v_cache")[0]!, 1)!.value[0],
    ]).toEqual([1064, 1032]);
    capture.close();
  });

  it("find a page under the view's own number where the storage's was not recorded", async () => {
    const path = record([{}, { storage: "other" }], ascending);
    changeEvents(path, (event) => {
      if (event.name.endsWith("v_cache")) event.view.offset = 7 * 64;
      return event;
    });
    const capture = openCapture(path);
    const observations = new CaptureObservations(capture, model.graph);
    expect(observations.output("model.layers.0.self_attn.v_cache", 0)!.value[0]).toBe(1000);
    capture.close();
  });

  it.each([
    [
      "a page that another view reads as its own",
      { offset: 7 * 64 },
      /view\.offset: expected tensor "s@0\/p8" for page 1 .* "s@0\/p1" holds page 1/,
    ],
    [
      "an offset that leads out of the page",
      { offset: 8 },
      /view\.offset: a page reaches element 71, its record has 64/,
    ],
    ["strides that do", { strides: [64, 40, 16, 1] }, /view\.strides: a page reaches element 71, its record has 64/],
    [
      "an offset beyond all pages of stride 0",
      { strides: [0, 32, 16, 1], offset: 64 },
      /view\.offset: a page reaches element 127/,
    ],
    ["a fractional offset", { offset: 0.5 }, /view\.offset: /],
  ])("are refused with %s", async (_, changed, expected) => {
    const path = record([{}, {}], ascending);
    changeEvents(path, (event) => {
      if (event.name.endsWith("v_cache")) Object.assign(event.view, changed);
      return event;
    });
    expect(() => openCapture(path)).toThrow(InputError);
    expect(() => openCapture(path)).toThrow(expected);
  });

  it("may not be guessed beyond what was recorded", async () => {
    const path = record(
      [{ strides: [128, 32, 16, 1] }, { strides: [128, 32, 16, 1], offset: 70, page_size: 1 }],
      ascending,
      128,
    );
    const capture = openCapture(path);
    const observations = new CaptureObservations(capture, model.graph);
    const [placed] = observations.pagedRecords("model.layers.0.self_attn.v_cache");
    const further = { ...placed!, record: { ...placed!.record, view: { ...placed!.record.view, offset: 100 } } };
    expect(observations.slotRow(placed!, 1)).toBeDefined();
    expect(observations.slotRow(further, 1)).toBeUndefined();
    capture.close();
  });
});
