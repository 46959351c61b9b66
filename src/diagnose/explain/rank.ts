import type { Explanation } from "./judge.js";

/**
 * Best first, and only those that nothing beats: bits before rounding, then what was named before what was fitted, fewer
 * numbers before more. Where bits decide nothing, clearly worse fits are dropped beside better ones.
 */
export function rank(explanations: readonly Explanation[]): Explanation[] {
  const matched = explanations.filter((explanation) => explanation.matched);
  const from = matched.length > 0 ? matched : explanations;
  const cost = ({ hypothesis }: Explanation) => (hypothesis.also ? 1000 : 0) + Math.min(hypothesis.fitted, 3);
  const sorted = [...from].sort((a, b) => cost(a) - cost(b) || remainder(a) - remainder(b));
  const best = sorted[0];
  if (!best) return [];
  const margin = matched.length > 0 ? Infinity : 1.25 * best.statistics.rmsZ + 0.14;
  return sorted.filter((e) => cost(e) === cost(best) && e.statistics.rmsZ <= margin);
}

/** What an explanation leaves unexplained: differing bits, or the size of the remaining errors. */
function remainder({ bits, statistics }: Explanation): number {
  return bits ? 1 - bits.equal / Math.max(1, bits.compared) : statistics.rmsZ;
}
