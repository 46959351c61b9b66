import type { NarrowFormat } from "../../tensor/narrow-format.js";

/** What a rewrite does to the exponentials of a row before they multiply the values. */
export interface SoftmaxRewrite {
  /** Multiplies one key's weight: 0 where it was dropped. The denominator does not know of it. */
  readonly factor?: (row: number, head: number, position: number) => number;
  /** Weights are multiplied by `scale` and rounded to a narrow type. */
  readonly narrow?: { readonly format: NarrowFormat; readonly scale: number };
  /** Keys are attended in parts that are put together in some other way than by their shares of the sum. */
  readonly merge?: PartMerge;
}

export interface PartMerge {
  /** First keys of all parts but the first one, of a row with that many keys. */
  readonly bounds: (keyCount: number) => readonly number[];
  /**
   * What a part's own softmax is weighted by: natural log-sum-exps taken for those of base 2, the reverse, the same weight for
   * all, sums against each part's own maximum that nobody rescaled; "added" adds the parts up.
   */
  readonly rule: "natural-as-base-2" | "base-2-as-natural" | "mean" | "added" | "unscaled";
}

/** Narrows weights in place. */
export function narrowWeights(weight: Float64Array, { format, scale }: NonNullable<SoftmaxRewrite["narrow"]>): void {
  for (let j = 0; j < weight.length; j++) weight[j]! *= scale;
  format.round(weight);
  for (let j = 0; j < weight.length; j++) weight[j]! /= scale;
}

interface Exponentials {
  readonly scores: Float64Array;
  readonly positions: readonly number[];
  readonly keyCount: number;
  /** Exponentials against `last`, as the denominator sums them. */
  readonly summand: (j: number) => number;
  readonly last: number;
}

/**
 * What each key's unnormalised weight is multiplied by so that parts come together by `merge`, and what divides their sum.
 */
export function mergeFactors(
  { bounds, rule }: PartMerge,
  { scores, positions, keyCount, summand, last }: Exponentials,
): { factors: Float64Array; total: number } {
  const ends = [...bounds(keyCount), Infinity];
  const partOf = positions.map((position) => ends.findIndex((end) => position < end));
  const sums = ends.map(() => 0);
  const maxima = ends.map(() => -Infinity);
  partOf.forEach((part, j) => {
    sums[part]! += summand(j);
    maxima[part] = Math.max(maxima[part]!, scores[j]!);
  });
  const logs = sums.map((sum) => last + Math.log(sum));
  const largest = Math.max(...logs);
  const shares = sums.map((sum, part) => {
    if (sum === 0) return 0;
    if (rule === "natural-as-base-2") return 2 ** (logs[part]! - largest);
    if (rule === "base-2-as-natural") return Math.exp((logs[part]! - largest) * Math.LOG2E);
    return rule === "unscaled" ? sum * Math.exp(last - maxima[part]!) : 1;
  });
  const total = rule === "added" ? 1 : shares.reduce((sum, share) => sum + share, 0);
  return { factors: Float64Array.from(partOf, (part) => shares[part]! / sums[part]!), total };
}
