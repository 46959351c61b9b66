import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fusedPath, standardPath } from "../../src/engine/device/paths.js";
import { randomWeights, type Weights } from "../../src/engine/device/weights.js";
import { Generation } from "../../src/engine/serve/generation.js";
import type { Gpu } from "../../src/engine/webgpu/gpu.js";
import { parseModelConfig } from "../../src/spec/models/config.js";
import { between, openTestDevice, randomNumbers } from "./gpu.js";
import { tinyConfigJson } from "./tiny-model.js";

/**
 * Decode steps of the run. A software GPU needs minutes for ten thousand, so that the suite runs few: a buffer kept shows
 * at once, a small object kept does not. `FAULTLINE_LEAK_STEPS=10000 npx vitest run test/engine/leak.test.ts` shows both.
 */
const steps = Number(process.env.FAULTLINE_LEAK_STEPS ?? 200);

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

/** GPU buffers that were made and not destroyed. */
class LiveBuffers {
  readonly #sizes = new Map<number, number>();
  #next = 0;

  constructor(device: GPUDevice) {
    const create = device.createBuffer.bind(device);
    device.createBuffer = (descriptor) => {
      const buffer = create(descriptor);
      const destroy = buffer.destroy.bind(buffer);
      const id = this.#next++;
      this.#sizes.set(id, buffer.size);
      buffer.destroy = () => {
        this.#sizes.delete(id);
        return destroy();
      };
      return buffer;
    };
  }

  get count(): number {
    return this.#sizes.size;
  }

  get bytes(): number {
    return [...this.#sizes.values()].reduce((sum, size) => sum + size, 0);
  }
}

/** As small as kernels allow: what is measured is who keeps what, not the numbers. */
const config = parseModelConfig(
  {
    ...tinyConfigJson,
    hidden_size: 16,
    intermediate_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    num_key_value_heads: 1,
    head_dim: 8,
    vocab_size: 32,
  },
  "leak",
);
let gpu: Gpu;
let weights: Weights;
let live: LiveBuffers;

beforeAll(async () => {
  gpu = await openTestDevice();
  live = new LiveBuffers(gpu.device);
  weights = await randomWeights(gpu, config, "bfloat16");
  // Made once per device, whenever a kernel first leaves an operand out.
  for (const type of ["uniform", "storage", "read-only-storage"] as const) gpu.placeholder(type);
});
afterAll(() => gpu.destroy());

describe.each([
  ["standard", standardPath],
  ["fused", fusedPath],
] as const)("%s path", (_, make) => {
  it(
    `keeps buffers and heap flat over ${steps} decode steps with sequences coming and going`,
    async () => {
      const before = live.count;
      const path = make(gpu, config, weights, {
        pageCount: 12,
        pageSize: 4,
        maxRows: 4,
        maxSequences: 2,
        cacheDtype: "float32",
      });
      const random = randomNumbers(17);
      let tokens = 0;
      const generation = new Generation(path, { chunk: 2, stepsAhead: 16, onToken: () => void tokens++ });
      const { scheduler } = generation;
      // Always two sequences: other numbers of rows have kernels of their own, which a software GPU compiles slowly.
      const runUntil = async (count: number) => {
        let done = 0;
        while (done < count) {
          while (scheduler.running.length + scheduler.waiting.length < 2) {
            const request = {
              tokenIds: Array.from({ length: between(random, 1, 8) }, () => between(random, 0, 31)),
              maxTokens: between(random, 1, 24),
            };
            const sequence = generation.add(request);
            // Some leave before they start.
            if (random() < 0.05) generation.remove(sequence);
          }
          const first = scheduler.running[0] ?? scheduler.waiting[0]!;
          const length = first.tokens.length;
          await generation.step();
          done += Math.max(1, first.tokens.length - length);
          if (random() < 0.02 && scheduler.running.length > 0) generation.remove(scheduler.running[0]!);
        }
      };
      const measure = async () => {
        for (let i = 0; i < 3; i++) {
          collectGarbage();
          await new Promise((resolve) => setTimeout(resolve, 10));
        }
        return { buffers: live.count, bytes: live.bytes, heap: process.memoryUsage().heapUsed };
      };
      await runUntil(steps / 4);
      const early = await measure();
      await runUntil((steps * 3) / 4);
      const late = await measure();
      expect(tokens).toBeGreaterThan(steps);
      expect({ buffers: late.buffers, bytes: late.bytes }).toEqual({ buffers: early.buffers, bytes: early.bytes });
      if (steps >= 10_000) console.log(JSON.stringify({ early, late, tokens }));
      // Compiled code and the like: 0.2 MB even in a short run. Over ten thousand steps this is 130 bytes a step.
      expect(late.heap - early.heap).toBeLessThan(1_000_000);
      path.dispose();
      expect(live.count).toBe(before);
    },
    Math.max(120_000, steps * 200),
  );
});
