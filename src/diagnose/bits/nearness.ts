import type { Evaluator } from "../../spec/evaluator.js";
import { type DType, floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll } from "../../tensor/rounding.js";
import type { Sample } from "./sample.js";

/** How near a unit under a recipe comes to the recorded bits, by its values alone. */
export interface Nearness {
  readonly compared: number;
  readonly equal: number;
  /** Root mean square of the differences in units in the last place. */
  readonly ulps: number;
}

/** A difference of more ulps says no more than that it is one. */
const farthest = 1e6;
/** Root mean square of units in the last place that ways of rounding do not lie apart, but for those of narrow operands. */
export const farApart = 8;

/** What is nearer leaves at most this share of the distance, or gives this share of the elements besides. */
const closer = 0.9;
const more = 0.02;

/** The cheap question: are these the bits, or at least nearer to them? */
export function nearness(
  evaluator: Evaluator,
  name: string,
  { rows, columns }: Sample,
  observed: Float64Array,
  dtype: DType,
): Nearness {
  const { value } = evaluator.evaluate(name, rows, columns);
  roundAll(value, dtype);
  const format = floatFormat(dtype);
  let compared = 0;
  let equal = 0;
  let squares = 0;
  for (let i = 0; i < observed.length; i++) {
    const expected = value[i]!;
    const seen = observed[i]!;
    if (seen === expected || (Number.isNaN(seen) && Number.isNaN(expected))) equal++;
    else if (Number.isNaN(expected)) continue;
    else if (!format || !Number.isFinite(seen) || !Number.isFinite(expected)) squares += farthest ** 2;
    else {
      const ulp = unitInLastPlace(Math.max(Math.abs(seen), Math.abs(expected)), format);
      squares += Math.min(farthest, Math.abs(seen - expected) / ulp) ** 2;
    }
    compared++;
  }
  return { compared, equal, ulps: compared > 0 ? Math.sqrt(squares / compared) : 0 };
}

/** How near several samples come together. */
export function together(parts: readonly Nearness[]): Nearness {
  let compared = 0;
  let equal = 0;
  let squares = 0;
  for (const part of parts) {
    compared += part.compared;
    equal += part.equal;
    squares += part.ulps ** 2 * part.compared;
  }
  return { compared, equal, ulps: compared > 0 ? Math.sqrt(squares / compared) : 0 };
}

/** Whether `a` is worth a closer look beside `b`. */
export function nearer(a: Nearness, b: Nearness): boolean {
  return a.equal >= b.equal + more * a.compared || a.ulps < closer * b.ulps;
}
