/** What one run took, by the clock and by the processor. */
export interface Times {
  readonly seconds: number;
  readonly cpuSeconds: number;
}

/** What several runs took. */
export interface Series {
  readonly seconds: readonly number[];
  readonly medianSeconds: number;
  readonly medianCpuSeconds: number;
}

/** One series over another, by the clock and by the processor. */
export interface Ratio {
  readonly ratio: number;
  readonly cpuRatio: number;
}

export function seriesOf(runs: readonly Times[]): Series {
  const seconds = runs.map((run) => run.seconds);
  return { seconds, medianSeconds: median(seconds), medianCpuSeconds: median(runs.map((run) => run.cpuSeconds)) };
}

export function ratioOf(ours: Series, theirs: Series): Ratio {
  return {
    ratio: ours.medianSeconds / theirs.medianSeconds,
    cpuRatio: ours.medianCpuSeconds / theirs.medianCpuSeconds,
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
