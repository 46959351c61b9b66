import { z } from "zod";
import { measured, printed, whole } from "../../tensor/printed.js";
import type { BenchmarkResult } from "./benchmark.js";

const kernels = z.array(z.object({ label: z.string(), count: whole, microseconds: measured }));

const speed = z.object({
  name: z.string(),
  dispatchesPerToken: measured,
  prefillTokensPerSecond: measured.describe("null: prefill was not measured"),
  decodeTokensPerSecond: measured,
  decodeRuns: z.array(measured),
  timeToFirstToken: measured.describe("milliseconds"),
  decodeKernels: kernels,
  prefillKernels: kernels,
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
