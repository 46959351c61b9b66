import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fusedPath, standardPath } from "../../src/engine/device/paths.js";
import { loadWeights, type Weights } from "../../src/engine/device/weights.js";
import { ReferencePath } from "../../src/engine/reference/reference-path.js";
import type { Path } from "../../src/engine/run/path.js";
import { generate } from "../../src/engine/serve/generation.js";
import { Recording } from "../../src/engine/serve/recording.js";
import type { Request } from "../../src/engine/serve/scheduler.js";
import type { Gpu } from "../../src/engine/webgpu/gpu.js";
import { type TinyModelOptions, writeTinyModel } from "../../src/lab/tiny-model.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { Checkpoint } from "../../src/tensor/checkpoint.js";
import { briefVerdict } from "../diagnose/brief-verdict.js";
import { openTestDevice, randomNumbers } from "./gpu.js";

/** Small models with what is peculiar to each family, weights drawn at random. */
const families: Record<string, TinyModelOptions> = {
  "Qwen3: QK-norm, tied head": { family: "qwen3" },
  "Qwen2: biases on q, k and v, sliding window, own head": { family: "qwen2" },
  "Llama 3: llama3 RoPE scaling, own head": { family: "llama" },
  "Mistral: a window in every layer": {
    family: "llama",
    config: { model_type: "mistral", sliding_window: 6, rope_scaling: null },
  },
  "Phi-4: packed projections": {
    family: "llama",
    config: { model_type: "phi3", hidden_size: 96, head_dim: 16, rope_scaling: null },
  },
  "SmolLM3: a layer without RoPE": {
    family: "llama",
    config: { model_type: "smollm3", no_rope_layers: [1, 0, 1], rope_scaling: null },
  },
  "OLMo 2: norms behind branches and over whole projections": {
    family: "llama",
    config: { model_type: "olmo2", rope_scaling: null },
  },
  "Granite: factors on embeddings, branches and logits; as SmolLM2, 9 query heads on 3, tied head": {
    family: "llama",
    config: {
      model_type: "granite",
      embedding_multiplier: 3,
      residual_multiplier: 0.5,
      attention_multiplier: 0.2,
      logits_scaling: 2,
      hidden_size: 144,
      num_attention_heads: 9,
      num_key_value_heads: 3,
      rope_theta: 100000,
      rope_scaling: null,
      tie_word_embeddings: true,
    },
  },
};

const pages = { pageCount: 40, pageSize: 4 } as const;

/**
 * Five sequences: a ragged batch of 18 rows (tiles), one of 10 that continues prompts beside decodes (vectors), then
 * decoding until all end together, the longest on its fifth page. Every number of rows has kernels of its own: few of them.
 */
const chunk = 5;
const lengths = [
  [7, 8],
  [1, 9],
  [11, 7],
  [2, 9],
  [5, 9],
] as const;
const random = randomNumbers(11);
const requests: Request[] = lengths.map(([prompt, maxTokens]) => ({
  tokenIds: Array.from({ length: prompt }, () => Math.floor(random() * 600)),
  maxTokens,
}));

const folder = mkdtempSync(join(tmpdir(), "faultline-families-"));
let gpu: Gpu;
beforeAll(async () => {
  gpu = await openTestDevice();
});
afterAll(() => {
  gpu.destroy();
  rmSync(folder, { recursive: true });
});

async function tokensOf(path: Path, recorder?: Recording): Promise<(readonly number[])[]> {
  return (await generate(path, requests, { chunk, recorder })).map(({ tokenIds }) => tokenIds);
}

describe.each(Object.entries(families))("%s", (name, options) => {
  const model = join(folder, name.replace(/\W+/g, "-"));
  let weights: Weights;
  let expected: (readonly number[])[];

  beforeAll(async () => {
    writeTinyModel(model, { ...options, config: { num_hidden_layers: 2, ...options.config } });
    const { config } = readModelConfig(model);
    const parameters = new Checkpoint(model);
    weights = await loadWeights(gpu, config, parameters);
    expected = await tokensOf(new ReferencePath({ config, parameters, ...pages }));
    parameters.close();
  });
  afterAll(() => weights.destroy());

  it.each([
    ["standard", standardPath],
    ["fused", fusedPath],
  ] as const)(
    "%s: the reference path's tokens; its recording, seams included, is diagnosed clean",
    async (pathName, make) => {
      const { config, json } = readModelConfig(model);
      const path = make(gpu, config, weights, { ...pages, cacheDtype: "float32", maxRows: 32, maxSequences: 5 });
      const target = join(model, pathName);
      const runtime = { name: `faultline ${pathName}`, device: gpu.name, dtype: "float32" };
      expect(await tokensOf(path, new Recording(target, { model: json, runtime }))).toEqual(expected);
      if (pathName === "fused") expect(await tokensOf(path), "without recording, decoding ahead").toEqual(expected);
      path.dispose();
      const verdict = await briefVerdict(target, model);
      expect(verdict.verdict, verdict.summary).toBe("clean");
      expect(verdict.findings).toEqual([]);
      expect(Object.entries(verdict.audits).filter(([, { pass }]) => !pass)).toEqual([]);
    },
  );
});
