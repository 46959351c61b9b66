import type { Explanation } from "./explanation.js";

/**
 * Best first, and only those that nothing beats: bits before rounding, then what was named before what was fitted, fewer
 * numbers before more. Where bits decide nothing, clearly worse fits are dropped beside better ones first: that much of an
 * error a wrong cause may take away.
 */
export function rank(explanations: readonly Explanation[]): Explanation[] {
  const matched = explanations.filter((explanation) => explanation.matched);
  const least = Math.min(...explanations.map(({ left }) => left));
  const from = matched.length > 0 ? matched : explanations.filter(({ left }) => left <= 1.25 * least + 0.14);
  const cost = ({ hypothesis }: Explanation) => (hypothesis.also ? 1000 : 0) + Math.min(hypothesis.fitted, 3);
  const sorted = [...from].sort((a, b) => cost(a) - cost(b) || remainder(a) - remainder(b));
  return sorted.filter((explanation) => cost(explanation) === cost(sorted[0]!));
}

/** What an explanation leaves unexplained: differing bits, or the size of the remaining errors. */
function remainder({ bits, left }: Explanation): number {
  return bits ? 1 - bits.equal / Math.max(1, bits.compared) : left;
}
