import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { diagnoseCommand } from "../../src/cli/diagnose.js";
import { fusedPath, standardPath } from "../../src/engine/device/paths.js";
import { loadWeights, type Weights } from "../../src/engine/device/weights.js";
import { generate } from "../../src/engine/serve/generation.js";
import { Recording } from "../../src/engine/serve/recording.js";
import { type LabModel, truncateModel } from "../../src/lab/model.js";
import { printedBy } from "../cli/printed.js";
import { ofEveryCache, type TestBackend } from "./backends.js";
import { goldenGenerations, modelDirectory } from "./ishmael.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-recording-gpu-"));
let gpu: TestBackend;
let model: LabModel;
let weights: Weights;

beforeAll(() => {
  model = truncateModel(modelDirectory, 2, join(folder, "model"));
});
afterEach(() => {
  process.exitCode = undefined;
});
afterAll(() => {
  model.parameters.close();
  rmSync(folder, { recursive: true });
});

/** What `faultline diagnose TARGET --model … --json` prints; its exit code is in `process.exitCode`. */
async function diagnosis(target: string) {
  const args = [target, "--model", model.directory, "--json"];
  return JSON.parse(await printedBy(() => diagnoseCommand().parseAsync(args, { from: "user" })));
}

describe.each(ofEveryCache)("%s", (backend, open) => {
  beforeAll(async () => {
    gpu = await open();
    weights = await loadWeights(gpu, model.config, model.parameters);
  });
  afterAll(() => {
    weights.destroy();
    gpu.destroy();
  });

  it.each([
    ["standard", standardPath, { layout: "HND", cacheDtype: "float16" }],
    ["fused", fusedPath, { layout: "NHD", cacheDtype: "bfloat16" }],
  ] as const)(
    "%s: five sequences in chunks, then decoding past the second page, are diagnosed clean with exit code 0",
    async (name, make, cache) => {
      const pages = { pageCount: 40, pageSize: 5, maxRows: 32, maxSequences: 5, ...cache };
      const path = make(gpu, model.config, weights, pages);
      const target = join(folder, backend, name);
      const runtime = { name: `faultline ${name}`, device: gpu.name, dtype: "float32" };
      const recorder = new Recording(target, { model: model.json, runtime });
      const requests = goldenGenerations().map(({ prompt_ids }) => ({
        tokenIds: prompt_ids,
        maxTokens: 16 - prompt_ids.length,
      }));
      expect(requests).toHaveLength(5);
      await generate(path, requests, { chunk: 3, recorder });
      path.dispose();
      const verdict = await diagnosis(target);
      expect(verdict.verdict, verdict.summary).toBe("clean");
      expect(verdict.findings).toEqual([]);
      expect(Object.values(verdict.audits).map((audit) => (audit as { pass: boolean }).pass)).toEqual([
        true,
        true,
        true,
        true,
      ]);
      expect(process.exitCode).toBe(0);
    },
  );
});
