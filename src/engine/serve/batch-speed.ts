import type { DecoderPath, PathOptions } from "../device/decoder-path.js";
import type { Step } from "../program/step.js";
import { median } from "./median.js";
import { batchSteps, pageSize, reservedPages, sequencesBatch } from "./sequences-batch.js";

/** Decode of one path at one size of the batch and one length of its sequences. */
export interface BatchSpeed {
  readonly sequences: number;
  /** Keys of every sequence before the first step. */
  readonly context: number;
  /** Of all sequences together; null where the cache was not made because it is larger than `mostCacheBytes`. */
  readonly tokensPerSecond: number | null;
  /** Of every run, of which the one above is the median. */
  readonly runs: readonly number[];
  readonly cacheBytes: number;
  /** If reading all weights and the cache once a step were all there is; null without timestamps. */
  readonly floorTokensPerSecond: number | null;
}

/** A larger cache is not made. */
const mostCacheBytes = 2 ** 34;

interface MeasuredBatch {
  readonly sequences: number;
  readonly context: number;
  /** Bytes of weights that a step reads. */
  readonly perToken: number;
  readonly readBandwidth: number | null;
}

/** Decode of sequences whose keys are whatever their pages hold: zeros cost what others cost. */
export async function measureBatch(
  open: (settings: PathOptions) => DecoderPath,
  steps: readonly Step[],
  { sequences, context, perToken, readBandwidth }: MeasuredBatch,
  repeats: number,
): Promise<BatchSpeed> {
  const longest = context + batchSteps;
  const bytesPerKey = cacheBytesPerKey(steps);
  const pageCount = sequences * Math.ceil(longest / pageSize);
  const cacheBytes = pageCount * pageSize * bytesPerKey;
  const floor =
    readBandwidth === null ? null : (sequences * readBandwidth) / (perToken + sequences * context * bytesPerKey);
  const shared = { sequences, context, cacheBytes, floorTokensPerSecond: floor };
  if (cacheBytes > mostCacheBytes) return { ...shared, tokensPerSecond: null, runs: [] };
  const path = open({ pageCount, pageSize, maxRows: sequences, maxSequences: sequences });
  try {
    const batch = sequencesBatch(sequences, context - 1, 1, longest, path.config.vocabularySize);
    const reserve = reservedPages(batch, longest);
    const runs: number[] = [];
    for (let i = 0; i < repeats + 2; i++) {
      const start = performance.now();
      await path.decode(batch, { steps: batchSteps, reserve, stepsPerRead: 8 });
      if (i > 1) runs.push(((sequences * batchSteps) / (performance.now() - start)) * 1000);
    }
    return { ...shared, tokensPerSecond: median(runs), runs };
  } finally {
    path.dispose();
  }
}

/** Bytes that one position of one sequence has in the caches of all layers, which are bfloat16. */
function cacheBytesPerKey(steps: readonly Step[]): number {
  const read = new Set<string>();
  let bytes = 0;
  for (const step of steps) {
    if (step.kind !== "attend") continue;
    for (const cache of [step.keys, step.values]) {
      if (!read.has(cache)) bytes += step.kvHeads * step.headDim * 2;
      read.add(cache);
    }
  }
  return bytes;
}
