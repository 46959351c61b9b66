import type { Comparison, Statistics } from "../check/statistics.js";
import type { Hypothesis } from "../hypothesis.js";

/** A |z| of more says no more. */
export const farthestZ = 1e6;
/** -ln of the share of right causes that are let go where the noise model judges. */
const doubt = Math.log(1000);

/** Root mean squares of the record's distance from the spec and from a rewrite, in units of the spec's noise. */
export function distances(spec: Comparison, rewritten: Comparison, heldOut: Hypothesis["heldOut"]): [number, number] {
  const width = spec.columns.length;
  let before = 0;
  let after = 0;
  let count = 0;
  for (let i = 0; i < spec.noise.length; i++) {
    const sigma = spec.noise[i]!;
    if (!Number.isFinite(sigma) || !Number.isFinite(rewritten.noise[i]!) || sigma === 0) continue;
    if (heldOut && !heldOut(Math.floor(i / width), i % width)) continue;
    const off = Math.abs(spec.observed[i]! - rewritten.expected[i]!) / sigma;
    before += Math.min(farthestZ, Math.abs(spec.z[i]!)) ** 2;
    after += Math.min(farthestZ, Number.isNaN(off) ? farthestZ : off) ** 2;
    count++;
  }
  return [Math.sqrt(before / Math.max(1, count)), Math.sqrt(after / Math.max(1, count))];
}

/**
 * Whether what is left of a unit's errors is what a right cause would leave, but for one in a thousand. The limits of a
 * failing unit must not accuse a right one; here it is the cause that is accused, and in doubt it is let go.
 */
export function isTypical({ rmsZ, distinctRows }: Statistics): boolean {
  const rows = Math.max(1, distinctRows);
  return rmsZ ** 2 <= 1 + 2 * Math.sqrt(doubt / rows) + (2 * doubt) / rows;
}
