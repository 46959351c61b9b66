import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fusedPath, standardPath } from "../../src/engine/device/paths.js";
import { loadWeights, type Weights } from "../../src/engine/device/weights.js";
import type { CapturedValue } from "../../src/engine/run/captured-value.js";
import type { ModelConfig } from "../../src/spec/models/config.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { Checkpoint } from "../../src/tensor/checkpoint.js";
import { byteWidth } from "../../src/tensor/dtype.js";
import { backends, type TestBackend } from "./backends.js";
import { TestPages } from "./batches.js";
import { randomNumbers } from "./gpu.js";

const model = new URL("../../models/ishmael-7m", import.meta.url).pathname;
let gpu: TestBackend;
let config: ModelConfig;
let weights: Weights;

describe.each(backends)("%s", (_, open, traits) => {
  const cacheDtype = traits?.dtype ?? "float32";
  beforeAll(async () => {
    gpu = await open();
    config = { ...readModelConfig(model).config, layerCount: 2 };
    const checkpoint = new Checkpoint(model);
    weights = await loadWeights(gpu, config, checkpoint);
    checkpoint.close();
  });
  afterAll(() => {
    weights.destroy();
    gpu.destroy();
  });

  test.each([
    ["standard", standardPath],
    ["fused", fusedPath],
  ] as const)("%s: a capture sees values at producer and consumer and changes nothing", async (name, make) => {
    const options = { pageCount: 12, pageSize: 16, cacheDtype, maxRows: 32, maxSequences: 4 } as const;
    const runs: Float32Array[] = [];
    const seen: CapturedValue[] = [];
    for (const captured of [false, true]) {
      const path = make(gpu, config, weights, options);
      const pages = new TestPages(12, 16, randomNumbers(1));
      const a = pages.sequence(0);
      const b = pages.sequence(1);
      const capture = { wants: () => true, value: (value: CapturedValue) => void seen.push(value) };
      await path.forward(
        pages.batch([
          { sequence: a, tokens: [5, 6, 7] },
          { sequence: b, tokens: [9, 8] },
        ]),
      );
      const step = pages.batch([
        { sequence: a, tokens: [11] },
        { sequence: b, tokens: [12] },
      ]);
      const { logits } = await path.forward(step, { logits: true, ...(captured ? { capture } : {}) });
      runs.push(logits!);
      path.dispose();
    }
    expect([...runs[1]!]).toEqual([...runs[0]!]);
    const outputs = new Set(seen.filter(({ role }) => role === "output").map((value) => value.name));
    const everywhere = ["self_attn.q_rope", "self_attn.k_cache", "self_attn.o_proj.input", "mlp.down_proj.input"];
    for (const value of everywhere) expect(outputs, value).toContain(`model.layers.1.${value}`);
    if (name === "standard") {
      for (const value of ["input_layernorm", "self_attn.k_norm", "mlp.act_fn", "mlp.down_proj"]) {
        expect(outputs, value).toContain(`model.layers.0.${value}`);
      }
    }
    // A reader sees its producer's epoch.
    const hidden = seen.filter((value) => value.name === "model.layers.0");
    expect(hidden.map(({ role, view }) => `${role} ${view.epoch}`).at(-1)).toBe(`input ${hidden[0]!.view.epoch}`);
    const cache = seen.find((value) => value.name.endsWith("k_cache"))!.view;
    expect(
      cache.kind === "paged" && cache.pageBytes.every((bytes) => bytes.length === 16 * 2 * 64 * byteWidth(cacheDtype)),
    ).toBe(true);
  });
});
