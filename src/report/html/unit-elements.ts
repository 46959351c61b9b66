import type { Sample } from "../../diagnose/bits/sample.js";
import type { UnitCheck } from "../../diagnose/check/investigation.js";
import { combine } from "../../diagnose/explain/combine.js";
import type { JudgedRun } from "../../diagnose/reference/judged-run.js";
import { asStored } from "../../repro/criterion.js";
import { recipesOf } from "../../repro/make-case.js";
import type { Evaluator } from "../../spec/evaluator.js";
import type { UnitRecipe } from "../../spec/recipe.js";
import { type DType, floatFormat } from "../../tensor/dtype.js";
import { drawnElements } from "./drawn-elements.js";
import { marksOf } from "./map-marks.js";
import type { UnitElements } from "./page-data.js";

/** Where the same elements stand in a reference run: NaN where it has none. */
export type ReadReference = (name: string, sample: Sample) => Float64Array | undefined;

/**
 * Elements of one unit as a map shows them: what its own recorded inputs imply under the recipe by which the unit rounds,
 * what was recorded, and how far apart they are; where causes touch the unit, what they leave.
 * @param sample [rows, columns] to evaluate, all of them recorded.
 * @returns undefined for values that are no floating-point numbers.
 */
export function unitElements(
  run: JudgedRun,
  check: UnitCheck,
  sample: Sample,
  readReference?: ReadReference,
): UnitElements | undefined {
  const { investigation } = run;
  const { name } = check.node;
  const { rows, columns } = sample;
  const dtype = investigation.observations.dtype(name)!;
  if (!floatFormat(dtype)) return undefined;
  const [recipe] = recipesOf(run, check);
  const observed = investigation.observed(name, rows, columns);
  const expected = evaluated(investigation.evaluator, check, sample, recipe, dtype);
  const explained = withCauses(run, check, sample, recipe, dtype);
  const reference = readReference?.(name, sample);
  return {
    unit: name,
    dtype,
    ...drawnElements(sample, { expected, observed, explained, reference }, dtype),
    of: { rows: investigation.observations.outputRows(name).length, columns: check.node.columns },
    ...marksOf(investigation, check, sample),
    basis: recipe
      ? "Expected: the spec on the unit's own recorded inputs, rounded as its kind of unit rounds in this run"
      : "Expected: the spec on the unit's own recorded inputs, in float64, rounded once",
  };
}

function evaluated(
  evaluator: Evaluator,
  { node }: UnitCheck,
  { rows, columns }: Sample,
  recipe: UnitRecipe | undefined,
  dtype: DType,
): Float64Array {
  const under = recipe ? evaluator.under(recipe, evaluator.graph.node(node.name), false) : evaluator.withoutNoise();
  return asStored(under.evaluate(node.name, rows, columns).value, dtype);
}

/** What the spec with the causes in it makes of a unit that they touch; undefined where none does. */
function withCauses(
  { investigation, causes }: JudgedRun,
  check: UnitCheck,
  sample: Sample,
  recipe: UnitRecipe | undefined,
  dtype: DType,
): Float64Array | undefined {
  const hypotheses = causes.flatMap((cause) => cause.hypotheses);
  const rewritten = combine(hypotheses);
  const names = new Set(rewritten.map(({ name }) => name));
  if (!investigation.interior(check.node.name).some(({ name }) => names.has(name))) return undefined;
  const own = hypotheses.flatMap(({ recipes }) => recipes?.get(check.node.name) ?? [])[0] ?? recipe;
  return evaluated(investigation.evaluator.rewritten(rewritten), check, sample, own, dtype);
}
