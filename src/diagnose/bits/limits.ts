import type { Statistics } from "./statistics.js";

/** Probability that a correct recording, whatever its size, is accused. No option: nothing a user sets moves a verdict. */
const falseAlarm = 1e-6;

/**
 * How improbable (as -ln of a probability) a single statement must be before it counts, in a recording that makes
 * `statements` of them: all together stay below one false alarm in a million recordings (Bonferroni).
 */
export function surpriseLimit(statements: number): number {
  return Math.log(Math.max(1, statements) / falseAlarm);
}

/**
 * How far beyond rounding a unit stands where no recipe gives its bits: above 1 it fails, infinite when one side is not
 * finite. The largest |z| is held against a Gaussian tail; the mean square of z against that of as many independent
 * numbers as there are different rows, since one rounding may move all elements of a row together.
 * Laurent and Massart, "Adaptive estimation of a quadratic functional", 2000: the tail of χ².
 * @param together whether rows err together, each by a random factor of its own, as they do where attention over uncertain
 * keys lies inside the unit: the tail is then that of a product of two normal numbers, and all rows are one.
 */
export function excess({ nonFinite, maxZ, rmsZ, distinctRows }: Statistics, limit: number, together = false): number {
  if (nonFinite > 0) return Infinity;
  const rows = together ? 1 : Math.max(1, distinctRows);
  const meanSquare = 1 + 2 * Math.sqrt(limit / rows) + (2 * limit) / rows;
  return Math.max(maxZ / (together ? limit : Math.sqrt(2 * limit)), rmsZ / Math.sqrt(meanSquare));
}
