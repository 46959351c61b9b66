import { z } from "zod";
import { measured, printed, whole } from "../../tensor/printed.js";
import type { BenchmarkResult } from "./benchmark.js";

const kernels = z.array(z.object({ label: z.string(), count: whole, microseconds: measured }));

const batch = z.object({
  sequences: whole,
  context: whole.describe("keys of every sequence"),
  tokensPerSecond: measured.describe("of all sequences together; null: its cache is larger than is made"),
  runs: z.array(measured),
  cacheBytes: whole,
  floorTokensPerSecond: measured.describe("if reading weights and cache once a step were all; null: no timestamps"),
});

const speed = z.object({
  name: z.string(),
  dispatchesPerToken: measured,
  prefillTokensPerSecond: measured.describe("null: prefill was not measured"),
  decodeTokensPerSecond: measured,
  decodeRuns: z.array(measured),
  timeToFirstToken: measured.describe("milliseconds"),
  decodeKernels: kernels,
  prefillKernels: kernels,
  batches: z.array(batch).describe("decode of batches, where --batches asked for it"),
});

/** What `faultline bench engine --json` prints. */
export const benchmarkSchema = printed<BenchmarkResult>()(
  z.object({
    gpu: z.string(),
    weightBytes: whole,
    readBandwidth: measured.describe("bytes per second; null: this GPU has no timestamps"),
    floorTokensPerSecond: measured,
    standard: speed,
    fused: speed,
    without: z.array(z.object({ fusion: z.string(), speed })),
  }),
);
