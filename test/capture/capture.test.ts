import { cpSync, mkdtempSync, readFileSync, rmSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { Capture } from "../../src/capture/capture.js";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { CaptureWriter } from "../../src/capture/writer.js";
import { compareBlock, statisticsOf } from "../../src/diagnose/bits/statistics.js";
import { Evaluator } from "../../src/spec/evaluator.js";
import { indices } from "../../src/spec/op.js";
import { encode } from "../../src/tensor/dtype.js";
import { InputError } from "../../src/tensor/errors.js";
import { writeSafetensors } from "../../src/tensor/safetensors.js";
import { type TinyModel, writePagedCapture, writePlainCapture, writeTinyModel } from "./tiny-run.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-capture-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const model = writeTinyModel(join(folder, "model"));
const plain = join(folder, "plain.safetensors");
writePlainCapture(plain, model);
const paged = { NHD: join(folder, "nhd"), HND: join(folder, "hnd") };
writePagedCapture(paged.NHD, model, "NHD");
writePagedCapture(paged.HND, model, "HND");

let count = 0;
const fresh = () => join(folder, `fresh-${count++}`);

/** Worst rms z over all recorded values, each judged on its own recorded inputs. */
function worst(capture: Capture, { graph, checkpoint }: TinyModel): { name: string; rmsZ: number } {
  const observations = new CaptureObservations(capture, graph);
  const evaluator = new Evaluator({
    graph,
    parameters: checkpoint,
    rows: observations.rows,
    precision: { store: "bfloat16", compute: "float32" },
    observations,
    noise: true,
  });
  let found = { name: "", rmsZ: 0 };
  for (const node of graph.nodes.values()) {
    if (!observations.has(node.name) || node.name === "sample") continue;
    const rows = observations.outputRows(node.name);
    const observed = new Float64Array(rows.length * node.columns);
    for (const [i, row] of rows.entries()) observed.set(observations.output(node.name, row)!.value, i * node.columns);
    const columns = indices(node.columns);
    const block = evaluator.evaluate(node.name, rows, columns);
    const { rmsZ } = statisticsOf(compareBlock(block, observed, "bfloat16", rows, columns));
    if (rmsZ > found.rmsZ) found = { name: node.name, rmsZ };
  }
  return found;
}

describe("a correct run, recorded", () => {
  it.each([
    ["plain", plain],
    ["paged NHD", paged.NHD],
    ["paged HND", paged.HND],
  ])("%s: every value is what the spec means, to within rounding", (_, path) => {
    const capture = openCapture(path);
    const { name, rmsZ } = worst(capture, model);
    expect(rmsZ, name).toBeLessThan(1.6);
    expect(rmsZ).toBeGreaterThan(0.3);
    capture.close();
  });

  it("keeps steps, samples and metadata", () => {
    const capture = openCapture(paged.NHD);
    expect(capture.kind).toBe("faultline");
    expect(capture.manifest.runtime).toEqual({ name: "tiny", version: "1", device: "cpu", dtype: "bfloat16" });
    expect(capture.steps.map((step) => step.seq_ids)).toEqual([
      [7, 9],
      [7, 9],
      [9, 7],
    ]);
    expect(capture.samples.map((sample) => sample.token_ids.length)).toEqual([2, 2, 2]);
    expect(capture.skipped).toEqual([]);
    expect(capture.records.map((record) => record.order)).toEqual(capture.records.map((_, i) => i));
    capture.close();
  });

  it("reads the cache through the reader's page table, in both layouts alike", () => {
    const [a, b] = [paged.NHD, paged.HND].map((path) => new CaptureObservations(openCapture(path), model.graph));
    const name = "model.layers.1.self_attn.k_cache";
    for (let row = 0; row < a!.rows.count; row++) {
      const read = a!.row(name, row, "model.layers.1.self_attn.o_proj.input", 2)!;
      expect(read.exact).toBe(true);
      expect(b!.row(name, row, "model.layers.1.self_attn.o_proj.input", 2)!.value).toEqual(read.value);
      expect(a!.output("model.layers.1.self_attn.k_rope", row)!.value).toEqual(read.value);
    }
    for (const observations of [a!, b!]) observations.capture.close();
  });
});

describe("a recording that ends in a crash", () => {
  const events = readFileSync(join(paged.NHD, "events.jsonl"));

  it("is read up to its last complete line, wherever it was cut", () => {
    const path = fresh();
    cpSync(paged.NHD, path, { recursive: true });
    let previous = Infinity;
    for (let length = events.length; length > 0; length -= length > 3000 ? 211 : 17) {
      truncateSync(join(path, "events.jsonl"), length);
      const lines = events.subarray(0, length).toString("utf8").split("\n").length - 1;
      if (lines < 2) {
        expect(() => openCapture(path)).toThrow(/expected (at least one "step" event|recorded values), found none/);
        continue;
      }
      const capture = openCapture(path);
      const read = capture.steps.length + capture.samples.length + capture.records.length;
      expect(read).toBe(lines);
      expect(read).toBeLessThanOrEqual(previous);
      previous = read;
      capture.close();
    }
  });

  it("says which values were lost when a step's file was never written", () => {
    const path = fresh();
    cpSync(paged.NHD, path, { recursive: true });
    unlinkSync(join(path, "step-00002.safetensors"));
    const capture = openCapture(path);
    expect(capture.skipped.length).toBeGreaterThan(20);
    expect(capture.skipped[0]!.why).toContain("step-00002.safetensors is missing");
    expect(capture.records.every((record) => record.step < 2)).toBe(true);
    expect(worst(capture, model).rmsZ).toBeLessThan(1.6);
    capture.close();
  });

  it("refuses a step's file that was cut", () => {
    const path = fresh();
    cpSync(paged.NHD, path, { recursive: true });
    const file = join(path, "step-00001.safetensors");
    truncateSync(file, readFileSync(file).length - 3);
    expect(() => openCapture(path)).toThrow(/step-00001\.safetensors: .*truncated/);
  });
});

describe("the writer", () => {
  const view = { storage: "s", epoch: 0, dtype: "float32" as const, shape: [2, 16], strides: [16, 1], offset: 0 };
  const step = { event: "step" as const, step: 0, seq_ids: [1], token_ids: [3, 4], qo_indptr: [0, 2] };

  it("leaves no event without its tensors", () => {
    const path = fresh();
    const writer = new CaptureWriter(path, {});
    writer.step(step);
    writer.dense("model.embed_tokens", "output", view, encode(new Array(32).fill(1.5), "float32"));
    expect(readFileSync(join(path, "events.jsonl"), "utf8")).toBe("");
    writer.finishStep();
    writer.finishStep();
    expect(readFileSync(join(path, "events.jsonl"), "utf8").split("\n").length).toBe(3);
    const capture = openCapture(path);
    const observations = new CaptureObservations(capture, model.graph);
    expect([...observations.output("model.embed_tokens", 1)!.value]).toEqual(new Array(16).fill(1.5));
    expect(observations.output("model.embed_tokens", 1)!.dtype).toBe("float32");
    capture.close();
  });

  it("overwrites nothing, and names what stands in its way", () => {
    expect(() => new CaptureWriter(paged.NHD, {})).toThrow(/expected a new or empty directory/);
    expect(() => new CaptureWriter(plain, {})).toThrow(InputError);
    expect(() => new CaptureWriter(join(plain, "below"), {})).toThrow(/cannot be created/);
  });

  it("copies bytes at once: a later write in place does not reach the record", () => {
    const path = fresh();
    const writer = new CaptureWriter(path, {});
    const bytes = encode(new Array(32).fill(2), "float32");
    writer.step(step);
    writer.dense("model.embed_tokens", "output", view, bytes);
    bytes.fill(0xff);
    writer.finishStep();
    const capture = openCapture(path);
    expect(new CaptureObservations(capture, model.graph).output("model.embed_tokens", 0)!.value[0]).toBe(2);
    capture.close();
  });

  it("keeps a view's strides, offset and claimed dtype beside the storage's own bytes", () => {
    const path = fresh();
    const writer = new CaptureWriter(path, {});
    writer.step(step);
    const reversed = { ...view, dtype: "float16" as const, strides: [1, 2] };
    const stored = Float64Array.from({ length: 32 }, (_, i) => i);
    writer.dense("model.embed_tokens", "output", reversed, encode(stored, "bfloat16"), "copy", "bfloat16");
    writer.finishStep();
    const capture = openCapture(path);
    const record = capture.records[0]!;
    expect(record.view.strides).toEqual([1, 2]);
    expect(record.by).toBe("copy");
    const seen = new CaptureObservations(capture, model.graph).output("model.embed_tokens", 1)!;
    // bfloat16 1 and 3 are 0x3f80 and 0x4040, which float16 reads as 1.875 and 2.125.
    expect([...seen.value.slice(0, 2)]).toEqual([1.875, 2.125]);
    capture.close();
  });
});

describe("strided views", () => {
  function record(shape: number[], strides: number[], elements: number[]): CaptureObservations {
    const path = fresh();
    const writer = new CaptureWriter(path, {});
    writer.step({ event: "step", step: 0, seq_ids: [1], token_ids: [3, 4], qo_indptr: [0, 2] });
    const view = { storage: "s", epoch: 0, dtype: "float32" as const, shape, strides, offset: 64 };
    writer.dense("model.layers.0.self_attn.k_rope", "output", view, encode(elements, "float32"));
    writer.finishStep();
    return new CaptureObservations(openCapture(path), model.graph);
  }
  const ascending = (n: number) => Array.from({ length: n }, (_, i) => i);

  it("reads a slice of a packed buffer", () => {
    const packed = record([2, 2, 8], [40, 8, 1], ascending(56));
    expect([...packed.output("model.layers.0.self_attn.k_rope", 1)!.value]).toEqual(ascending(16).map((i) => i + 40));
  });

  it("reads a broadcast view (stride 0)", () => {
    const broadcast = record([2, 2, 8], [0, 0, 1], ascending(8));
    expect([...broadcast.output("model.layers.0.self_attn.k_rope", 1)!.value]).toEqual([
      ...ascending(8),
      ...ascending(8),
    ]);
  });

  it.each([
    ["one element too few", [2, 2, 8], [16, 8, 1], 31, /reach element 31, "s@0" has 31/],
    ["a negative stride", [2, 2, 8], [16, 8, -1], 32, /reach element -7/],
    ["too few strides", [2, 2, 8], [8, 1], 32, /view\.strides: expected 3 numbers, found 2/],
    ["an axis of nothing", [2, 0, 8], [16, 8, 1], 32, /at least one element/],
    ["a stride beyond 2^40", [2, 2, 8], [2 ** 41, 8, 1], 32, /view\.strides/],
  ])("refuses %s", (_, shape, strides, elements, expected) => {
    expect(() => record(shape, strides, ascending(elements))).toThrow(expected);
    expect(() => record(shape, strides, ascending(elements))).toThrow(InputError);
  });
});

describe("plain recordings", () => {
  const tokens = { name: "input_ids", dtype: "int64" as const, shape: [1, 4], bytes: encode([1, 2, 3, 4], "int64") };
  const hidden = {
    name: "model.embed_tokens",
    dtype: "float32" as const,
    shape: [1, 4, 16],
    bytes: encode(new Array(64).fill(1), "float32"),
  };

  function write(tensors: Parameters<typeof writeSafetensors>[1]): string {
    const path = `${fresh()}.safetensors`;
    writeSafetensors(path, tensors);
    return path;
  }

  it("are one step of as many sequences as input_ids has rows", () => {
    const capture = openCapture(plain);
    expect(capture.kind).toBe("plain");
    expect(capture.steps[0]!.qo_indptr).toEqual([0, 6, 12]);
    expect(capture.steps[0]!.seq_ids).toEqual([0, 1]);
    capture.close();
  });

  it("take q_rope as [batch, head, token, channel] even where heads and tokens are equally many", () => {
    const values = Float64Array.from({ length: 128 }, (_, i) => i);
    const rope = {
      name: "model.layers.0.self_attn.q_rope",
      dtype: "float32" as const,
      shape: [1, 4, 4, 8],
      bytes: encode(values, "float32"),
    };
    const norm = { ...rope, name: "model.layers.0.self_attn.q_norm" };
    const capture = openCapture(write([tokens, hidden, rope, norm]));
    const observations = new CaptureObservations(capture, model.graph);
    expect(observations.output(rope.name, 1)!.value[8]).toBe(1 * 32 + 1 * 8);
    expect([...observations.output(rope.name, 1)!.value.slice(0, 2)]).toEqual([8, 9]);
    expect([...observations.output(norm.name, 1)!.value.slice(0, 2)]).toEqual([32, 33]);
    expect(observations.denseRecords(rope.name)[0]!.axes.order).toBe("b h t d");
    expect(observations.denseRecords(norm.name)[0]!.axes.order).toBe("b t h d");
    capture.close();
  });

  it("may hold logits of the last token alone", () => {
    const logits = {
      name: "lm_head",
      dtype: "float32" as const,
      shape: [1, 1, 32],
      bytes: encode(new Array(32).fill(0), "float32"),
    };
    const capture = openCapture(write([tokens, logits]));
    expect([...new CaptureObservations(capture, model.graph).outputRows("lm_head")]).toEqual([3]);
    capture.close();
  });

  it("take positions per sequence or per token", () => {
    const positions = (shape: number[], values: number[]) => ({
      name: "position_ids",
      dtype: "int64" as const,
      shape,
      bytes: encode(values, "int64"),
    });
    expect(openCapture(write([tokens, hidden, positions([1, 4], [5, 6, 7, 8])])).steps[0]!.positions).toEqual([
      5, 6, 7, 8,
    ]);
    expect(() => openCapture(write([tokens, hidden, positions([3], [0, 1, 2])]))).toThrow(
      /position_ids: expected the 4 positions/,
    );
  });

  it.each([
    ["no input_ids", [hidden], /expected a tensor "input_ids"/],
    [
      "input_ids of floats",
      [{ ...tokens, dtype: "float64" as const }, hidden],
      /input_ids: expected integers, found float64/,
    ],
    [
      "input_ids of three axes",
      [{ ...tokens, shape: [1, 2, 2] }, hidden],
      /expected shape \[batch, tokens\], found \[1, 2, 2\]/,
    ],
    ["no tokens", [{ ...tokens, shape: [1, 0], bytes: new Uint8Array(0) }, hidden], /found \[1, 0\]/],
    ["a negative token", [{ ...tokens, bytes: encode([1, -2, 3, 4], "int64") }, hidden], /token ids of 0 or more/],
    ["nothing but tokens", [tokens], /beside input_ids, found none/],
    [
      "a mask of another shape",
      [tokens, hidden, { ...tokens, name: "attention_mask", shape: [2], bytes: encode([1, 1], "int64") }],
      /attention_mask: expected .* in the shape of input_ids, \[1, 4\], found shape \[2\]/,
    ],
  ])("are refused with %s", (_, tensors, expected) => {
    const path = write(tensors);
    expect(() => openCapture(path)).toThrow(InputError);
    expect(() => openCapture(path)).toThrow(expected);
  });

  it("are refused when all their numbers are NaN", () => {
    const capture = openCapture(
      write([tokens, { ...hidden, bytes: encode(new Array(64).fill(Number.NaN), "float32") }]),
    );
    expect(() => new CaptureObservations(capture, model.graph)).toThrow(/found NaN in every element of all 1 values/);
    capture.close();
    const one = new Array(64).fill(Number.NaN);
    one[63] = 0;
    const some = openCapture(write([tokens, { ...hidden, bytes: encode(one, "float32") }]));
    expect(new CaptureObservations(some, model.graph).has("model.embed_tokens")).toBe(true);
    some.close();
  });
});

describe("events", () => {
  const lines = readFileSync(join(paged.NHD, "events.jsonl"), "utf8").trim().split("\n");
  const dense = lines.findIndex((line) => line.includes("q_proj"));
  const cache = lines.findIndex((line) => line.includes("k_cache"));

  /** The paged capture with some lines changed. */
  function changed(edit: (lines: string[]) => string[]): string {
    const path = fresh();
    cpSync(paged.NHD, path, { recursive: true });
    writeFileSync(join(path, "events.jsonl"), `${edit([...lines]).join("\n")}\n`);
    return path;
  }
  function withField(line: number, change: (event: Record<string, never>) => void): string {
    return changed((all) => {
      const event = JSON.parse(all[line]!);
      change(event);
      all[line] = JSON.stringify(event);
      return all;
    });
  }
  const set = (line: number, path: string, value: unknown) =>
    withField(line, (event) => {
      const keys = path.split(".");
      let at = event as Record<string, unknown>;
      for (const key of keys.slice(0, -1)) at = at[key] as Record<string, unknown>;
      at[keys.at(-1)!] = value;
    });

  it("may carry fields of their own and blank lines between them", () => {
    const capture = openCapture(changed((all) => all.flatMap((line) => ["", line.replace("{", '{"mine":{"x":1},')])));
    expect(capture.steps.length).toBe(3);
    capture.close();
  });

  it.each([
    ["no JSON", changed((all) => ["{", ...all]), /line 1: expected one JSON object per line/],
    [
      "another event",
      changed((all) => ['{"event":"trace"}', ...all]),
      /line 1: event: expected "step", "value" or "sample"/,
    ],
    ["a list", changed((all) => ["[]", ...all]), /line 1: event: expected/],
    ["a deep list", changed((all) => ["[".repeat(1e5), ...all]), /line 1: expected JSON nested at most/],
    ["a step twice", changed((all) => [all[0]!, ...all]), /line 2: step: expected a number above 0, found 0/],
    ["no steps", changed((all) => all.filter((line) => !line.includes('"event":"step"'))), /at least one "step"/],
    [
      "no values",
      changed((all) => all.filter((line) => !line.includes('"event":"value"'))),
      /recorded values, found none/,
    ],
    ["a step that is text", set(0, "step", "0"), /line 1: step: /],
    ["a missing field", withField(0, (e) => delete e.qo_indptr), /line 1: qo_indptr: /],
    ["no sequences", set(0, "seq_ids", []), /line 1: seq_ids: expected at least one/],
    ["a sequence twice", set(0, "seq_ids", [7, 7]), /distinct/],
    ["qo_indptr of another length", set(0, "qo_indptr", [0, 8]), /qo_indptr: expected 3 numbers, found 2/],
    ["qo_indptr that falls", set(0, "qo_indptr", [0, 9, 8]), /qo_indptr: expected to rise from 0 to the 8 tokens/],
    ["fractional tokens", set(0, "token_ids", [0.5]), /token_ids\.0: /],
    ["a huge position", set(0, "positions", [1e300]), /positions\.0: /],
    ["an unknown dtype", set(dense, "view.dtype", "complex64"), /view\.dtype: /],
    ["an unknown role", set(dense, "role", "both"), /role: /],
    ["no view", withField(dense, (e) => delete e.view), /view: /],
    ["another storage", set(dense, "view.storage", "nowhere"), /view\.storage: .* has no tensor "nowhere@0"/],
    ["another page", set(cache, "view.pages", [5, 4]), /view\.pages: .* has no tensor/],
    ["a page that is too large", set(cache, "view.page_size", 5), /view\.strides: a page reaches element/],
    ["an unknown layout", set(cache, "view.layout", "DHN"), /view\.layout: /],
    ["a negative page stride", set(cache, "view.strides", [64, 16, 8, -1]), /view\.strides\.3: /],
  ])("are refused with %s", (_, path, expected) => {
    expect(() => openCapture(path)).toThrow(InputError);
    expect(() => openCapture(path)).toThrow(expected);
  });

  it.each([
    [
      "another width",
      set(dense, "view.shape", [8, 4, 7]),
      /has shape \[8, 4, 7\]; the model and the step's 8 tokens need/,
    ],
    ["other heads", set(cache, "view.heads", 1), /view has 1 heads of 8, the model 2 heads of 8/],
    [
      "tokens outside the vocabulary",
      set(0, "token_ids", [0, 1, 2, 3, 4, 5, 6, 151643]),
      /vocabulary of 32, found 151643/,
    ],
  ])("do not fit the model with %s", (_, path, expected) => {
    const capture = openCapture(path);
    expect(() => new CaptureObservations(capture, model.graph)).toThrow(InputError);
    expect(() => new CaptureObservations(capture, model.graph)).toThrow(expected);
    capture.close();
  });

  it("of values the model does not have are set aside, not refused", () => {
    const capture = openCapture(set(dense, "name", "model.layers.0.self_attn.rotary_emb"));
    const { unknown } = new CaptureObservations(capture, model.graph);
    expect(unknown).toEqual([{ value: "model.layers.0.self_attn.rotary_emb", why: "not a value of the spec" }]);
    capture.close();
  });
});

describe("tokens from before the recording", () => {
  const late = (prefix: number) => {
    const path = fresh();
    const writer = new CaptureWriter(path, {});
    const pages = Math.ceil((prefix + 1) / 4);
    writer.step({
      event: "step",
      step: 0,
      seq_ids: [1],
      token_ids: [3],
      qo_indptr: [0, 1],
      positions: [prefix],
      kv_indptr: [0, pages],
      kv_indices: [],
      kv_last_page_len: [prefix + 1 - (pages - 1) * 4],
      page_size: 4,
    });
    const view = { storage: "s", epoch: 0, dtype: "float32" as const, shape: [1, 16], strides: [16, 1], offset: 0 };
    writer.dense("model.embed_tokens", "output", view, encode(new Array(16).fill(1), "float32"));
    writer.finishStep();
    const capture = openCapture(path);
    const observations = new CaptureObservations(capture, model.graph);
    capture.close();
    return observations;
  };

  it("are given rows where positions and cache lengths agree on them, up to a limit", () => {
    const { rows } = late(9);
    expect(rows.position.at(-1)).toBe(9);
    expect(rows.count).toBe(10);
    expect(late(2 ** 30).rows.count).toBe(1);
  });

  it("leave what depends on them open, and nothing else", () => {
    const observations = late(9);
    const evaluator = new Evaluator({
      graph: model.graph,
      parameters: model.checkpoint,
      rows: observations.rows,
      precision: { store: "float32", compute: "float32" },
      noise: true,
    });
    const row = Int32Array.of(9);
    const projected = evaluator.evaluate("model.layers.0.self_attn.v_proj", row);
    expect([...projected.variance].every(Number.isFinite)).toBe(true);
    const logits = evaluator.evaluate("lm_head", row);
    expect([...logits.variance].every((variance) => variance === Infinity)).toBe(true);
  });
});
