import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { isPagedRecord } from "../../src/capture/capture.js";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { excess, surpriseLimit } from "../../src/diagnose/bits/limits.js";
import { drawSample } from "../../src/diagnose/bits/sample.js";
import { compareBlock, statisticsOf } from "../../src/diagnose/bits/statistics.js";
import { ReferencePath } from "../../src/engine/reference/reference-path.js";
import { generate } from "../../src/engine/serve/generation.js";
import { Recording } from "../../src/engine/serve/recording.js";
import type { Request } from "../../src/engine/serve/scheduler.js";
import { Evaluator } from "../../src/spec/evaluator.js";
import { decoderGraph } from "../../src/spec/models/decoder.js";
import type { DType } from "../../src/tensor/dtype.js";
import { tinyConfig, tinyConfigJson, tinyParameters, tinyPrompt } from "./tiny-model.js";

const parameters = tinyParameters();
const graph = decoderGraph(tinyConfig);
const requests: Request[] = [7, 1, 11, 2, 5].map((length, i) => ({ tokenIds: tinyPrompt(length, i), maxTokens: 6 }));

/** Five sequences in chunks of three, then decoding, over pages of four: recorded, and the tokens they gave. */
async function record(dtype: DType, options: { recorded: boolean; requests?: Request[] } = { recorded: true }) {
  const directory = join(mkdtempSync(join(tmpdir(), "faultline-recording-")), "capture");
  const path = new ReferencePath({ config: tinyConfig, parameters, pageCount: 32, pageSize: 4, dtype });
  const runtime = { name: "faultline reference", device: "cpu", dtype };
  const recorder = options.recorded ? new Recording(directory, { model: tinyConfigJson, runtime }) : undefined;
  const results = await generate(path, options.requests ?? requests, { chunk: 3, recorder });
  return { directory, tokens: results.map(({ tokenIds }) => tokenIds) };
}

describe.each(["float32", "bfloat16", "float16"] as const)("a recording of the reference path in %s", (dtype) => {
  it("holds every value, each within rounding of what its recorded inputs mean", async () => {
    const { directory } = await record(dtype);
    const capture = openCapture(directory);
    const observations = new CaptureObservations(capture, graph);
    expect(capture.skipped).toEqual([]);
    expect(observations.unknown).toEqual([]);
    const precision = { store: dtype, compute: "float32" } as const;
    const options = { graph, parameters, rows: observations.rows, precision, observations, noise: true };
    const evaluator = new Evaluator(options);
    for (const node of graph.nodes.values()) {
      if (node.name === "sample") continue;
      const { rows, columns } = drawSample(node, observations.outputRows(node.name), observations.rows, {
        rows: 40,
        columns: 97,
      });
      const lastOnly = node.name.startsWith("lm_head");
      expect(rows.length, node.name).toBe(lastOnly ? observations.outputRows(node.name).length : 40);
      const observed = [...rows].flatMap((row) => {
        const { value } = observations.output(node.name, row)!;
        return [...columns].map((column) => value[column]!);
      });
      const block = evaluator.evaluate(node.name, rows, columns);
      const statistics = statisticsOf(compareBlock(block, Float64Array.from(observed), dtype, rows, columns));
      expect(excess(statistics, surpriseLimit(observed.length)), node.name).toBeLessThanOrEqual(1);
    }
    capture.close();
  });

  it("does not change what is generated", async () => {
    const recorded = await record(dtype);
    expect((await record(dtype, { recorded: false })).tokens).toEqual(recorded.tokens);
  });
});

describe("a recording", () => {
  it("shows pages as they were written and as attention reads them", async () => {
    const { directory, tokens } = await record("bfloat16");
    const capture = openCapture(directory);
    const paged = capture.records.filter(isPagedRecord);
    const caches = new Set(paged.map(({ name }) => name));
    expect(caches.size).toBe(2 * tinyConfig.layerCount);
    for (const { step, name, role, view } of paged) {
      const event = capture.steps.find((candidate) => candidate.step === step)!;
      const pages = role === "input" ? event.kv_indices! : event.slot_mapping!.map((slot) => Math.floor(slot / 4));
      expect(new Set(view.pages), `${name} ${role}`).toEqual(new Set(pages));
      expect(view.strides).toEqual([4 * 32, 32, 16, 1]);
    }
    const last = capture.steps.at(-1)!;
    expect(last.kv_indptr![1]).toBeGreaterThanOrEqual(3);
    const inLine = last.kv_indices!.filter((page, i) => i > 0 && page === last.kv_indices![i - 1]! + 1);
    expect(inLine.length).toBeLessThan(last.kv_indices!.length / 2);
    const sampled = capture.samples.at(-1)!.token_ids;
    expect(last.seq_ids.map((id) => tokens[id]!.at(-1))).toEqual(sampled);
    capture.close();
  });

  it("leaves out tokens that were drawn at random", async () => {
    const sampling = { temperature: 1, topP: 1, seed: 1 };
    const { directory } = await record("float32", { recorded: true, requests: [{ ...requests[0]!, sampling }] });
    const capture = openCapture(directory);
    expect(capture.samples).toEqual([]);
    expect(capture.steps.length).toBe(8);
    capture.close();
  });

  it("overwrites nothing", async () => {
    const { directory } = await record("float32");
    const runtime = { name: "faultline reference", device: "cpu", dtype: "float32" };
    expect(() => new Recording(directory, { model: {}, runtime })).toThrow(/expected a new or empty directory/);
    expect(existsSync(join(directory, "manifest.json"))).toBe(true);
  });
});
