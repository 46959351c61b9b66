import type { Comparison, Statistics } from "../bits/statistics.js";
import type { Hypothesis } from "../causes/hypothesis.js";

/** A |z| of more says no more. */
export const farthestZ = 1e6;
/** -ln of the share of right causes that are let go where the noise model judges. */
const doubt = Math.log(1000);

/** Noise of a rewrite, in that of the spec, up to which an element is told as sharply. */
const sharp = 3;
/** Share of the elements that must be, or all of them count. */
const enoughSharp = 0.25;

/**
 * Root mean squares of the record's distance from the spec and from a rewrite, in units of the spec's noise: over the
 * elements that the rewrite says as sharply as the spec, where it says part of them so (dropout among few keys).
 */
export function distances(spec: Comparison, rewritten: Comparison, heldOut: Hypothesis["heldOut"]): [number, number] {
  const width = spec.columns.length;
  const all: number[] = [];
  const leftOut: number[] = [];
  for (let i = 0; i < spec.noise.length; i++) {
    if (!(Number.isFinite(spec.noise[i]!) && spec.noise[i]! > 0)) continue;
    if (heldOut && !heldOut(Math.floor(i / width), i % width)) leftOut.push(i);
    else if (Number.isFinite(rewritten.noise[i]!)) all.push(i);
  }
  const isChanged = (i: number) => rewritten.expected[i] !== spec.expected[i];
  const sharply = all.filter((i) => rewritten.noise[i]! <= sharp * spec.noise[i]!);
  const told = sharply.length >= enoughSharp * all.length ? sharply : all;
  // A rewrite of single elements leaves all others as they are: what it says of those is nothing.
  const chosen = leftOut.length > 0 && !all.some(isChanged) ? leftOut.filter(isChanged) : told;
  let before = 0;
  let after = 0;
  for (const i of chosen) {
    const off = Math.abs(spec.observed[i]! - rewritten.expected[i]!) / spec.noise[i]!;
    before += Math.min(farthestZ, Math.abs(spec.z[i]!)) ** 2;
    after += Math.min(farthestZ, Number.isNaN(off) ? farthestZ : off) ** 2;
  }
  const count = Math.max(1, chosen.length);
  return [Math.sqrt(before / count), Math.sqrt(after / count)];
}

/**
 * Whether what is left of a unit's errors is what a right cause would leave, but for one in a thousand. The limits of a
 * failing unit must not accuse a right one; here it is the cause that is accused, and in doubt it is let go.
 */
export function isTypical({ rmsZ, distinctRows }: Statistics): boolean {
  const rows = Math.max(1, distinctRows);
  return rmsZ ** 2 <= 1 + 2 * Math.sqrt(doubt / rows) + (2 * doubt) / rows;
}
