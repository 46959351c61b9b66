import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openPlainCapture } from "../../src/capture/plain.js";
import { compareCaptures } from "../../src/compare/compare.js";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { promptSteps } from "../../src/lab/batch.js";
import { legalImplementation } from "../../src/lab/legal.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { unitChecks } from "../../src/lab/units.js";
import { decode, encode } from "../../src/tensor/dtype.js";
import { InputError } from "../../src/tensor/errors.js";
import { SafetensorsFile } from "../../src/tensor/safetensors.js";
import { integers, PaddedRuns, prompts } from "./padded-runs.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-padded-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const runs = new PaddedRuns(folder);
const [qwen3, qwen2, llama] = runs.models;
const both = ["attention_mask", "position_ids"] as const;

const [mask, counted, columns] = [
  prompts.flatMap((prompt) => Array.from({ length: 9 }, (_, c) => Number(c >= 9 - prompt.length))),
  prompts.flatMap((prompt) => Array.from({ length: 9 }, (_, c) => Math.max(0, c - 9 + prompt.length))),
  prompts.flatMap(() => Array.from({ length: 9 }, (_, c) => c)),
];

describe("a padded batch in a plain file", () => {
  it("is a ragged step of its real tokens", async () => {
    const capture = openPlainCapture(runs.record());
    expect(capture.steps[0]!.token_ids).toEqual(prompts.flat());
    expect(capture.steps[0]!.qo_indptr).toEqual([0, 5, 14, 16]);
    const { rows } = new CaptureObservations(capture, qwen3!.graph);
    expect(rows.count).toBe(16);
    expect(rows.position.slice(0, 7)).toEqual([0, 1, 2, 3, 4, 0, 1]);
    capture.close();
  });

  it.each(["left", "right"] as const)("padded on the %s gives each row the values of its own token", async (side) => {
    const capture = openPlainCapture(runs.record({ side }));
    const observations = new CaptureObservations(capture, qwen3!.graph);
    const rows = observations.outputRows("model.embed_tokens");
    expect([...rows]).toEqual([...Array(16).keys()]);
    for (const row of rows) {
      const embedding = qwen3!.parameters.rows("model.embed_tokens.weight", prompts.flat()[row]!, 1);
      expect(observations.output("model.embed_tokens", row)!.value).toEqual(embedding);
    }
    expect(observations.denseRecords("model.layers.0.self_attn.q_rope")[0]!.axes.order).toBe("b h t d");
    capture.close();
  });

  it.each([
    ["left", "columns", ["attention_mask"], qwen3],
    ["left", "counts", ["attention_mask"], qwen2],
    ["left", "columns", both, llama],
    ["left", "counts", both, qwen3],
    ["right", "columns", both, qwen2],
    ["right", "counts", ["attention_mask"], llama],
  ] as const)("padded on the %s, RoPE counting %s, with %j: no finding", async (side, rotary, recorded, model) => {
    const target = runs.record({ side, rotary, recorded }, { model: model! });
    const verdict = await diagnose({ target, model: model!.directory, quick: true });
    expect(verdict.findings).toEqual([]);
    expect(verdict.verdict).toBe("clean");
    expect(verdict.recording.rows).toBe(16);
  });

  it("stays within rounding for other correct implementations", async () => {
    for (let draw = 0; draw < 6; draw++) {
      const model = [qwen3, qwen2, llama][draw % 3]!;
      const store = (["bfloat16", "float16", "float32"] as const)[draw % 2 === 0 ? 0 : 1 + (draw % 4 > 1 ? 1 : 0)];
      const path = runs.fresh();
      runLab({
        model,
        steps: promptSteps(prompts),
        store: store!,
        path,
        padding: { side: draw % 2 ? "left" : "right", token: 0, rotary: "counts", recorded: both },
        implement: (graph) => legalImplementation(graph, model.parameters, store!, randomGenerator(draw + 40)),
      });
      for (const check of unitChecks(path, model))
        expect(check.excess, `draw ${draw}, ${check.node.name}`).toBeLessThanOrEqual(1);
    }
  });

  it("may have a mask of floats or booleans", async () => {
    const path = runs.record();
    for (const dtype of ["float32", "bfloat16", "bool"] as const) {
      const other = { dtype, shape: [3, 9], bytes: encode(mask, dtype) };
      const capture = openPlainCapture(runs.changed(path, { attention_mask: other }));
      expect(capture.steps[0]!.qo_indptr).toEqual([0, 5, 14, 16]);
      capture.close();
    }
  });

  it("may hold anything at padded places: NaN, and tokens that are none", async () => {
    const path = runs.record();
    const ids = mask.map((real, i) => (real ? prompts.flat()[mask.slice(0, i).reduce((a, b) => a + b, 0)]! : -100));
    const spoilt = mask.flatMap((real, i) =>
      Array.from(
        real ? qwen3!.parameters.rows("model.embed_tokens.weight", ids[i]!, 1) : new Array(64).fill(Number.NaN),
      ),
    );
    const embedded = { dtype: "bfloat16" as const, shape: [3, 9, 64], bytes: encode(spoilt, "bfloat16") };
    const target = runs.changed(path, { input_ids: integers([3, 9], ids), "model.embed_tokens": embedded });
    expect((await diagnose({ target, model: qwen3!.directory, quick: true })).verdict).toBe("clean");
  });

  it("is all of it judged: a fault in the batch is found", async () => {
    const path = runs.record();
    const file = new SafetensorsFile(path);
    const name = "model.layers.1.mlp.down_proj";
    const values = decode(file.readBytes(file.entry(name)), "bfloat16");
    file.close();
    values.fill(0, (9 + 8) * 64, (9 + 9) * 64);
    const wrong = { dtype: "bfloat16" as const, shape: [3, 9, 64], bytes: encode(values, "bfloat16") };
    const verdict = await diagnose({
      target: runs.changed(path, { [name]: wrong }),
      model: qwen3!.directory,
      quick: true,
    });
    expect(verdict.findings.map(({ unit }) => unit)).toContain(name);
  });

  it.each([
    ["left", [4, 13, 15]],
    ["right", [13]],
  ] as const)("padded on the %s: logits of the last column are those of rows %j", async (side, rows) => {
    const path = runs.record({ side }, { lastTokens: true });
    const capture = openPlainCapture(path);
    const observations = new CaptureObservations(capture, qwen3!.graph);
    expect([...observations.outputRows("lm_head")]).toEqual(rows);
    const [judged] = observations.unknown;
    if (side === "left") expect(judged).toBeUndefined();
    else
      expect(judged).toMatchObject({ value: "lm_head", why: expect.stringContaining("padding in 2 of 3 sequences") });
    capture.close();
    expect((await diagnose({ target: path, model: qwen3!.directory, quick: true })).verdict).toBe("clean");
  });

  it.each([
    ["counted in the sequence", integers([3, 9], counted), undefined],
    ["counted in the row", integers([9], columns.slice(0, 9)), undefined],
    [
      "counted in the row, one too many",
      integers(
        [3, 9],
        columns.map((n) => n + 1),
      ),
      "position-offset",
    ],
    [
      "one too many",
      integers(
        [3, 9],
        counted.map((n) => n + 1),
      ),
      "position-offset",
    ],
    [
      "all the same",
      integers(
        [3, 9],
        counted.map(() => 4),
      ),
      "positions-wrong",
    ],
  ])("positions %s: %s", async (_, position_ids, cause) => {
    const rotary = position_ids.shape.length === 1 ? "columns" : "counts";
    const target = runs.changed(runs.record({ rotary }), { position_ids });
    const found = (await diagnose({ target, model: qwen3!.directory, quick: true })).causes.filter(({ units }) =>
      units.includes("positions"),
    );
    expect(found.map((entry) => entry.cause)).toEqual(cause ? [cause] : []);
  });

  it.each([
    [
      "padding between tokens",
      integers([3, 9], mask.with(13, 0)),
      /sequence 1 side by side .* found padding at column 4 between/,
    ],
    [
      "a sequence of padding",
      integers(
        [3, 9],
        mask.fill(0, 0, 0).map((m, i) => (i < 9 ? 0 : m)),
      ),
      /padding alone in sequence 0/,
    ],
    [
      "a mask of another shape",
      integers([9, 3], mask),
      /attention_mask: expected 1 .* shape of input_ids, \[3, 9\], found shape \[9, 3\]/,
    ],
    ["a mask that begins earlier", integers([3, 11], new Array(33).fill(1)), /found shape \[3, 11\]/],
    ["other numbers", integers([3, 9], mask.with(20, 2)), /expected 1 for a token and 0 for padding .* found 2/],
    [
      "scores",
      { dtype: "float32" as const, shape: [3, 1, 9, 9], bytes: encode(new Array(243).fill(0), "float32") },
      /found a mask of scores of shape \[3, 1, 9, 9\]/,
    ],
  ])("is refused with %s", async (_, attention_mask, expected) => {
    const path = runs.changed(runs.record(), { attention_mask });
    expect(() => openPlainCapture(path)).toThrow(InputError);
    expect(() => openPlainCapture(path)).toThrow(expected);
  });

  it("says which rows a value of another shape was to have", async () => {
    const tensor = { dtype: "bfloat16" as const, shape: [16, 64], bytes: new Uint8Array(2048) };
    const capture = openPlainCapture(runs.changed(runs.record(), { "model.layers.0": tensor }));
    expect(() => new CaptureObservations(capture, qwen3!.graph)).toThrow(
      /a batch padded to 3 × 9 tokens needs 27 rows/,
    );
    capture.close();
  });
});

describe("comparing padded batches", () => {
  it("compares real tokens alone", async () => {
    const reference = runs.record();
    const file = new SafetensorsFile(reference);
    const entry = file.entry("model.layers.0");
    const values = decode(file.readBytes(entry), "bfloat16");
    file.close();
    const compared = (at: number) => {
      const other = { dtype: "bfloat16" as const, shape: [3, 9, 64], bytes: encode(values.with(at, 99), "bfloat16") };
      const target = runs.changed(reference, { "model.layers.0": other });
      const captures = [openPlainCapture(reference), openPlainCapture(target)] as const;
      const { values: pairs } = compareCaptures(...captures, { graph: qwen3!.graph });
      for (const capture of captures) capture.close();
      return pairs.find(({ name }) => name === "model.layers.0")!;
    };
    expect(compared(3 * 64 + 5)).toMatchObject({ elements: 16 * 64, differing: 0 });
    expect(compared(4 * 64 + 5)).toMatchObject({ elements: 16 * 64, differing: 1 });
  });
});
