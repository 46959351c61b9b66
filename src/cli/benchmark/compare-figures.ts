import { type LargeDType, writeLargeCaptures } from "./large-captures.js";
import { runMeasured } from "./measured-child.js";
import { type Baseline, measureNumpy } from "./numpy-baseline.js";
import { say } from "./progress.js";
import { freeBytes, inTemporaryFolder } from "./temporary-folder.js";
import { gigabytes } from "./units.js";

export interface CompareFigures {
  readonly folder: string;
  readonly freeBytes: number;
  readonly bytesPerCapture: number;
  readonly dtype: LargeDType;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakBytes: number;
  readonly baseline: Baseline;
  /** Our time over NumPy's, by the clock and by the processor; undefined without NumPy. */
  readonly ratio: number | undefined;
  readonly cpuRatio: number | undefined;
}

interface Request {
  readonly dtype: LargeDType;
  readonly folder: string;
  readonly python: string;
}

/** Compares two generated captures of `bytes` each, beside NumPy's allclose over the same files. */
export async function measureCompare(
  bytes: number,
  { dtype, folder, python }: Request,
): Promise<CompareFigures | { readonly skipped: string }> {
  if (bytes === 0) return { skipped: "--size 0" };
  const needed = 2 * bytes + 2 ** 28;
  const free = freeBytes(folder);
  say(`compare: ${gigabytes(needed)} needed in ${folder}, ${gigabytes(free)} free`);
  if (free < needed) {
    return {
      skipped: `${folder} has ${gigabytes(free)} free, ${gigabytes(needed)} are needed; name another with --folder, or a smaller --size`,
    };
  }
  return inTemporaryFolder(folder, async (directory) => {
    say("writing two captures");
    const captures = writeLargeCaptures(directory, bytes, dtype);
    say("comparing them");
    const run = await runMeasured(["compare", captures.reference, captures.target, "--json"]);
    if (run.exitCode > 1) throw new Error(`compare ended with status ${run.exitCode}`);
    say("numpy.allclose over the same files");
    const baseline = await measureNumpy(python, captures.reference, captures.target);
    return {
      folder,
      freeBytes: free,
      bytesPerCapture: captures.bytes,
      dtype,
      seconds: run.seconds,
      cpuSeconds: run.cpuSeconds,
      peakBytes: run.peakBytes,
      baseline,
      ratio: "seconds" in baseline ? run.seconds / baseline.seconds : undefined,
      cpuRatio: "seconds" in baseline ? run.cpuSeconds / baseline.cpuSeconds : undefined,
    };
  });
}
