import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fusedPath, standardPath } from "../../src/engine/device/paths.js";
import { loadWeights, type Weights } from "../../src/engine/device/weights.js";
import { ReferencePath } from "../../src/engine/reference/reference-path.js";
import type { Path } from "../../src/engine/run/path.js";
import { Generation, generate } from "../../src/engine/serve/generation.js";
import type { Request } from "../../src/engine/serve/scheduler.js";
import type { Gpu } from "../../src/engine/webgpu/gpu.js";
import { openTestDevice } from "./gpu.js";
import { tinyBytes, tinyConfig, tinyParameters, tinyPrompt } from "./tiny-model.js";

const parameters = tinyParameters();

/** Bit patterns for freed pages: a large finite number in float32, then NaN. */
const sentinels = [0x4f4f4f4f, 0x7fc00000];

/** Few rows at a time: every number of rows has kernels of its own, and a software GPU compiles them slowly. */
const chunk = 2;

const requests: Request[] = [9, 6].map((length, i) => ({
  tokenIds: tinyPrompt(length, i),
  maxTokens: 9,
  sampling: i % 2 ? { temperature: 0.8, topP: 0.9, seed: i } : undefined,
}));

let gpu: Gpu;
let weights: Weights;
let expected: (readonly number[])[];

beforeAll(async () => {
  gpu = await openTestDevice();
  weights = await loadWeights(gpu, tinyConfig, tinyBytes(parameters));
  const reference = new ReferencePath({ config: tinyConfig, parameters, pageCount: 64, pageSize: 4 });
  expected = (await generate(reference, requests)).map(({ tokenIds }) => tokenIds);
});

afterAll(() => gpu.destroy());

// A busy machine without a GPU compiles for minutes.
describe.each([
  ["standard", standardPath],
  ["fused", fusedPath],
] as const)("generation on the %s path", { timeout: 400_000 }, (_, make) => {
  let path: Path;

  beforeAll(() => {
    const limits = { maxRows: 64, maxSequences: 8, cacheDtype: "float32" } as const;
    path = make(gpu, tinyConfig, weights, { pageCount: 7, pageSize: 4, ...limits });
  });

  afterAll(() => path.dispose());

  it.each(sentinels)(
    "gives the reference path's tokens: in chunks, preempted, on pages filled with %d",
    async (poison) => {
      path.poisonPages(
        Array.from({ length: path.pageCount }, (_, page) => page),
        poison,
      );
      const generation = new Generation(path, { chunk, poison });
      const sequences = requests.map((request) => generation.add(request));
      await generation.run();
      expect(generation.scheduler.preemptions).toBeGreaterThan(0);
      expect(sequences.map(({ generated }) => generated)).toEqual(expected);
    },
  );

  it("gives them alone", async () => {
    const alone: (readonly number[])[] = [];
    for (const request of requests) alone.push((await generate(path, [request], { chunk }))[0]!.tokenIds);
    expect(alone).toEqual(expected);
  });

  it("stops at end tokens while others fly on", async () => {
    const end = expected[0]![4]!;
    const at = expected[0]!.indexOf(end);
    const [ended, other] = await generate(path, [{ ...requests[0]!, endTokens: [end] }, requests[1]!], { chunk });
    expect(ended).toEqual({ tokenIds: expected[0]!.slice(0, at + 1), finish: "end" });
    expect(other!.tokenIds).toEqual(expected[1]);
  });
});
