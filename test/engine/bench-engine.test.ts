import { expect, test, vi } from "vitest";
import { benchCommand } from "../../src/cli/bench.js";
import type { BenchmarkResult } from "../../src/engine/serve/benchmark.js";
import { expectPublished } from "../published.js";

const adapter = process.env.FAULTLINE_ADAPTER ?? "software";
const few = ["--prompt-tokens", "3", "--new-tokens", "2", "--prefill", "20", "--runs", "1", "--warm-ups", "0"];

async function bench(...options: string[]): Promise<string> {
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  try {
    await benchCommand()
      .exitOverride()
      .parseAsync(["engine", ...options], { from: "user" });
    return write.mock.calls.map(([text]) => String(text)).join("");
  } finally {
    write.mockRestore();
  }
}

test("measures both paths, their kernels, and every fusion off", { timeout: 120_000 }, async () => {
  const batched = ["--batches", "1", "3", "--contexts", "5", "20"];
  const options = ["--random", "tiny", "--adapter", adapter, ...few, ...batched, "--json"];
  const result = JSON.parse(await bench(...options)) as BenchmarkResult;
  expectPublished("bench-engine", result);
  const { standard, fused, without } = result;
  // One layer: embedding, five dispatches, lm_head, two of sampling.
  expect(fused.dispatchesPerToken).toBe(9);
  expect(without.map(({ fusion }) => fusion)).toEqual([
    "projection",
    "rotary",
    "prologue",
    "merge",
    "residual",
    "gate",
  ]);
  // Three keys are one split, so there is nothing to merge with or without that fusion.
  for (const { fusion, speed } of without) {
    const more = speed.dispatchesPerToken - fused.dispatchesPerToken;
    if (fusion === "merge") expect(more).toBe(0);
    else expect(more).toBeGreaterThan(0);
  }
  for (const path of [standard, fused]) {
    expect(path.prefillTokensPerSecond).toBeGreaterThan(0);
    expect(path.decodeRuns).toEqual([path.decodeTokensPerSecond]);
    expect(path.timeToFirstToken).toBeGreaterThan(0);
    const counted = path.decodeKernels.reduce((sum, { count }) => sum + count, 0);
    expect(counted).toBe(path.dispatchesPerToken);
    expect(path.prefillKernels.length).toBeGreaterThan(0);
    const sizes = path.batches.map(({ context, sequences }) => `${sequences} of ${context}`);
    expect(sizes).toEqual(["1 of 5", "3 of 5", "1 of 20", "3 of 20"]);
    for (const { tokensPerSecond, runs, floorTokensPerSecond } of path.batches) {
      expect(runs).toEqual([tokensPerSecond]);
      expect(floorTokensPerSecond).toBeLessThanOrEqual(3 * result.floorTokensPerSecond!);
    }
  }
  expect(result.floorTokensPerSecond).toBeCloseTo(result.readBandwidth! / result.weightBytes, 6);
});

test("says what is wrong with the request in a sentence", async () => {
  await expect(bench()).rejects.toThrow("expected --model <dir> or --random <shape>");
  await expect(bench("--random", "tiny", "--prefill", "513")).rejects.toThrow("513 tokens were asked for");
  await expect(bench("--random", "tiny", "--adapter", "no such GPU", ...few)).rejects.toThrow(/^bench engine: /);
});
