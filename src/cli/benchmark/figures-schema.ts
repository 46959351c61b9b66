import { z } from "zod";
import { measured, printed, whole } from "../../tensor/printed.js";
import type { CheckerFigures } from "./checker-text.js";

const seconds = measured;
const skipped = z.object({ skipped: z.string().describe("why it was not measured") });
const ratio = z.object({ ratio: measured, cpuRatio: measured });
const series = z.object({ seconds: z.array(seconds), medianSeconds: seconds, medianCpuSeconds: seconds });
const checksum = series.extend({ program: z.string(), bytes: whole });
const diagnosis = series.extend({
  exitCode: z.int(),
  verdict: z.string(),
  causes: z.array(z.string()),
  peakBytes: whole,
});
const besideBoth = diagnosis.extend({ overChecksum: ratio, overBaseline: ratio });

const compare = z.object({
  folder: z.string(),
  freeBytes: whole,
  bytesPerCapture: whole,
  dtype: z.string(),
  seconds,
  cpuSeconds: seconds,
  peakBytes: whole,
  baseline: z.union([
    z.object({ numpy: z.string(), seconds, cpuSeconds: seconds, peakBytes: whole }),
    z.object({ unavailable: z.string() }),
  ]),
  ratio: measured.optional(),
  cpuRatio: measured.optional(),
});

const shape = z.object({
  shape: z.string(),
  tokens: whole,
  folder: z.string(),
  neededBytes: whole,
  freeBytes: whole,
  checkpointBytes: whole,
  recordingBytes: whole,
  checksum,
  baseline: series.extend({ numpy: z.string(), peakBytes: whole }),
  clean: besideBoth,
  fault: besideBoth,
});

/** What `faultline bench checker --json` prints: docs/performance-checker.md. */
export const figuresSchema = printed<CheckerFigures>()(
  z.object({
    machine: z.object({ cores: whole, processor: z.string(), memoryBytes: whole, node: z.string() }),
    compare: z.union([compare, skipped]),
    diagnose: z.union([
      diagnosis.extend({
        recording: z.string(),
        tensors: whole,
        checksum: checksum.optional(),
        overChecksum: ratio.optional(),
      }),
      skipped,
    ]),
    shapes: z.array(z.union([shape, skipped.extend({ shape: z.string() })])),
  }),
);
