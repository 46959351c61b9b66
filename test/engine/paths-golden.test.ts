import { readFileSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { PathOptions } from "../../src/engine/device/decoder-path.js";
import { fusedPath, standardPath } from "../../src/engine/device/paths.js";
import { loadWeights, type Weights } from "../../src/engine/device/weights.js";
import type { Path } from "../../src/engine/run/path.js";
import type { ModelConfig } from "../../src/spec/models/config.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { Checkpoint } from "../../src/tensor/checkpoint.js";
import { type AttentionTraits, backends, type TestBackend } from "./backends.js";
import { TestPages, type TestSequence } from "./batches.js";
import { randomNumbers } from "./gpu.js";

interface Generation {
  prompt_ids: number[];
  greedy_ids: number[];
  top2_margin: number[];
}

const model = new URL("../../models/ishmael-7m", import.meta.url).pathname;
const golden = JSON.parse(readFileSync(new URL("../golden/hf_greedy_fp32.json", import.meta.url), "utf8")) as {
  generations: Generation[];
};

/** Tokens of each continuation that are compared; all 48 take a software GPU 20 minutes. */
const steps = Number(process.env.FAULTLINE_GOLDEN_STEPS ?? 3);

let gpu: TestBackend;
let traits: AttentionTraits | undefined;
let config: ModelConfig;
let weights: Weights;
const make = { standard: standardPath, fused: fusedPath };

function openPath(name: "standard" | "fused", options: Partial<PathOptions> = {}): Path {
  return make[name](gpu, config, weights, {
    pageCount: 64,
    pageSize: 16,
    cacheDtype: "float32",
    maxRows: 128,
    maxSequences: 8,
    ...options,
    ...(traits && { cacheDtype: traits.dtype }),
  });
}

/** What bfloat16 queries, outputs and caches may move a logit by. */
const marginOf16Bits = 0.1;

/** Tokens must be the recording's up to a step whose two best logits were closer than `margin`. */
function expectTokens(tokens: readonly number[], generation: Generation, margin: number): void {
  const limit = traits ? Math.max(margin, marginOf16Bits) : margin;
  const differs = tokens.findIndex((token, i) => token !== generation.greedy_ids[i]);
  if (differs < 0) return;
  expect(generation.top2_margin[differs], `token ${differs} of ${tokens}`).toBeLessThan(limit);
}

/** Prefills (in chunks of `chunk` tokens) and decodes all generations as one ragged batch, on pages full of `poison`. */
async function generate(
  path: Path,
  generations: readonly Generation[],
  steps: number,
  { chunk = 1000, poison = 0x7fc07fc0, seed = 7 } = {},
) {
  const pages = new TestPages(path.pageCount, path.pageSize, randomNumbers(seed));
  path.poisonPages([...Array(path.pageCount).keys()], poison);
  const sequences = generations.map((_, i) => pages.sequence(i));
  const first: number[] = [];
  let waiting = generations.map((g, i) => ({ sequence: sequences[i]!, left: [...g.prompt_ids], index: i }));
  while (waiting.length > 0) {
    const batch = pages.batch(waiting.map(({ sequence, left }) => ({ sequence, tokens: left.splice(0, chunk) })));
    const { tokenIds, finite } = await path.forward(batch);
    expect(finite.every(Boolean)).toBe(true);
    waiting.forEach(({ index }, b) => {
      first[index] = tokenIds[b]!;
    });
    waiting = waiting.filter(({ left }) => left.length > 0);
  }
  const batch = pages.batch(sequences.map((sequence, i) => ({ sequence, tokens: [first[i]!] })));
  const reserve = sequences.map((sequence: TestSequence) => pages.reserve(sequence, steps));
  const rows = await path.decode(batch, { steps: steps - 1, reserve, stepsPerRead: 5 });
  return generations.map((_, i) => [first[i]!, ...rows.map((row) => row[i]!)]);
}

/** All of them go through the batch below. */
const alone = golden.generations
  .toSorted((a, b) => a.prompt_ids.length - b.prompt_ids.length)
  .filter((_, i, all) => i === 0 || i === all.length - 1);

const batched = {
  standard: { layout: "HND", pageSize: 5, cacheDtype: "float32", margin: 0.02 },
  fused: { layout: "NHD", pageSize: 4, cacheDtype: "float16", margin: 0.05 },
} as const;

describe.each(backends)("%s", (_, open, its) => {
  beforeAll(async () => {
    traits = its;
    gpu = await open();
    config = readModelConfig(model).config;
    const checkpoint = new Checkpoint(model);
    weights = await loadWeights(gpu, config, checkpoint);
    checkpoint.close();
  });
  afterAll(() => {
    weights.destroy();
    gpu.destroy();
  });

  describe.each(["standard", "fused"] as const)("%s path", { timeout: Math.max(240_000, steps * 20_000) }, (name) => {
    test("continues the shortest and the longest golden prompt alone", async () => {
      const path = openPath(name);
      for (const generation of alone) {
        const [tokens] = await generate(path, [generation], steps);
        expectTokens(tokens!, generation, 0.02);
      }
      path.dispose();
    });

    test("batches them in chunks, then again on the same pages: finite numbers first stand there, then NaN", async () => {
      const { margin, ...options } = batched[name];
      // Hardly more pages than are needed: the second batch gets those of the first, in another order.
      const needed = golden.generations.map(({ prompt_ids }) =>
        Math.ceil((prompt_ids.length + 1 + steps) / options.pageSize),
      );
      const path = openPath(name, { ...options, pageCount: needed.reduce((sum, count) => sum + count) + 1 });
      for (const [generations, poison, chunk, seed] of [
        [golden.generations, 0x4f4f4f4f, 4, 1],
        [golden.generations.toReversed(), 0x7fc07fc0, 5, 2],
      ] as const) {
        const tokens = await generate(path, generations, steps, { chunk, poison, seed });
        generations.forEach((generation, i) => {
          expectTokens(tokens[i]!, generation, margin);
        });
      }
      path.dispose();
    });
  });
});
