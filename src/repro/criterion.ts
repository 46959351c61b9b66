import type { Sample } from "../diagnose/bits/sample.js";
import { compareBlock, statisticsOf } from "../diagnose/bits/statistics.js";
import type { Investigation } from "../diagnose/check/investigation.js";
import { surprise } from "../spec/noise.js";
import type { UnitRecipe } from "../spec/recipe.js";
import { roleOf } from "../spec/site.js";
import { type DType, floatFormat, unitInLastPlace } from "../tensor/dtype.js";
import { roundAll } from "../tensor/rounding.js";
import { type Criterion, isRight } from "./unit-case.js";

/**
 * How a unit's output is told right from wrong in a file that knows nothing of the spec. Where the record is beyond
 * whatever correct kernels round, that decides: a repaired kernel may round as it likes. Where it is wrong only in bits
 * that a known recipe gives, those decide.
 * @param recipes those that the unit may have been computed by, the likeliest first.
 * @returns undefined when the record is right by all of them.
 */
export function criterionFor(
  investigation: Investigation,
  unit: string,
  sample: Sample,
  observed: Float64Array,
  recipes: readonly UnitRecipe[],
): Criterion | undefined {
  const all = [
    () => byRounding(investigation, unit, sample, observed),
    ...recipes.map((recipe) => () => byBits(investigation, unit, sample, recipe)),
  ];
  for (const make of all) {
    const criterion = make();
    const dtype = investigation.observations.dtype(unit)!;
    if (isRight(criterion, observed) || !isRight(criterion, asStored(criterion.expected, dtype))) continue;
    return criterion;
  }
  return undefined;
}

/** What a right output is once it is stored. */
export function asStored(expected: Float64Array, dtype: DType): Float64Array {
  const stored = expected.slice();
  roundAll(stored, dtype);
  return stored;
}

/** By the noise of every legal rounding: docs/noise.md. */
function byRounding(
  investigation: Investigation,
  unit: string,
  { rows, columns }: Sample,
  observed: Float64Array,
): Criterion {
  const block = investigation.evaluator.evaluate(unit, rows, columns);
  const comparison = compareBlock(block, observed, investigation.observations.dtype(unit)!, rows, columns);
  // The limits are those at which a unit of this size has an excess of 1.
  const none = { ...statisticsOf(comparison), nonFinite: 0, maxZ: 0, rmsZ: 0 };
  const sigmas = 1 / investigation.excessOf(unit, { ...none, maxZ: 1 });
  const meanSquare = 1 / investigation.excessOf(unit, { ...none, rmsZ: 1 }) ** 2;
  const farthest = comparison.noise.map((sigma) => sigmas * sigma);
  return { by: "rounding", expected: block.value, farthest, sigmas, meanSquare };
}

/** By the bits of one recipe, and how far the order of summation may move each: the distance that counts as improbable. */
function byBits(investigation: Investigation, unit: string, { rows, columns }: Sample, recipe: UnitRecipe): Criterion {
  const node = investigation.graph.node(unit);
  const block = investigation.evaluator.under(recipe, node, true).evaluate(unit, rows, columns);
  const format = floatFormat(investigation.observations.dtype(unit)!);
  const farthest = block.value.map((value, i) => {
    const variance = block.variance[i]!;
    if (!Number.isFinite(value) || !Number.isFinite(variance) || (block.range?.[i] ?? 0) !== 0) return Infinity;
    const moved = improbableFrom(variance, block.jump?.[i] ?? 0, investigation.limit);
    return format ? moved + unitInLastPlace(Math.abs(value) + moved, format) / 2 : moved;
  });
  const used = new Set([...rows].map((row) => recipe.at(investigation.observations.rows.phaseOf(row))));
  const ids = new Set([...used].flatMap(({ ops }) => ops.get(roleOf(node))?.id ?? node.op.recipes?.[0]?.id ?? []));
  return { by: "bits", expected: block.value, farthest, ...(ids.size > 0 && { recipe: [...ids].join(", ") }) };
}

/** The distance from which an error is more improbable than `limit` says. */
function improbableFrom(variance: number, jump: number, limit: number): number {
  if (variance === 0) return 0;
  let low = 0;
  let high = Math.sqrt(variance);
  while (surprise(high, variance, jump) <= limit) {
    low = high;
    high *= 2;
  }
  for (let halved = 0; halved < 40; halved++) {
    const middle = (low + high) / 2;
    if (surprise(middle, variance, jump) <= limit) low = middle;
    else high = middle;
  }
  return high;
}
