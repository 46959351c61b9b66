import { type Phase, phases } from "../../spec/phase.js";
import type { UnitRecipe } from "../../spec/recipe.js";
import { withoutScratch, withScratch } from "../../tensor/scratch.js";
import { type Nearness, nearness, together } from "../bits/nearness.js";
import type { PhasedSearch, RecipeScore } from "../bits/recipe-search.js";
import type { Sample, SampleLimits } from "../bits/sample.js";
import type { Investigation } from "./investigation.js";

/** Multiply-adds of unrecorded products from which a try of a recipe looks at fewer rows. */
const fewRowsFrom = 2e7;
const fewRows = 3;

const products = new Set(["linear", "expert-linear"]);

interface Probe {
  readonly name: string;
  readonly sample: Sample;
}

/**
 * A search for the recipe of some units of one role, on a few elements of each, among them rows of every phase.
 * @param more rows that every probe takes besides those it draws.
 */
export function recipeSearch(
  investigation: Investigation,
  names: readonly string[],
  limits: SampleLimits,
  more: readonly number[] = [],
): PhasedSearch {
  // The first layer reads the embeddings, which no kernel recomputes: a later one has all choices.
  const interior = investigation.interior(names.at(-1)!);
  const perRow = interior
    .slice(1)
    .filter(({ op }) => op.kind === "linear")
    .reduce((sum, { columns, inputs }) => sum + columns * investigation.graph.node(inputs[0]!).columns, 0);
  // Where weights are multiplied anew, few elements cost as much as many.
  const multiplies = interior.slice(1).some(({ op }) => products.has(op.kind));
  const most = perRow * limits.rows * names.length > fewRowsFrom ? fewRows : limits.rows;
  const probes = names.map((name) => drawProbe(investigation, name, { ...limits, rows: most }, more));
  const { graph, observations } = investigation;
  const table = observations.rows;
  const { store } = investigation.precision;
  const own = { names, graph, interior, store, isRecorded: (name: string) => observations.has(name) };
  const over = (taken: readonly Probe[]) => {
    const rows = taken.flatMap(({ sample }) => [...sample.rows]);
    let glances: readonly Glance[] | undefined;
    return {
      ...own,
      cost: perRow * rows.length,
      longest: rows.reduce((longest, row) => Math.max(longest, table.keyCount(row)), 0),
      score: (recipe: UnitRecipe) => scoreOf(investigation, taken, recipe),
      glance(recipe: UnitRecipe): Nearness | undefined {
        if (multiplies) return undefined;
        glances ??= taken.map((probe) => glanceAt(investigation, probe));
        return nearnessOf(investigation, glances, recipe);
      },
    };
  };
  const seen = new Set(probes.flatMap(({ sample }) => Array.from(sample.rows, (row) => table.phaseOf(row))));
  return {
    ...over(probes),
    phases: phases.filter((phase) => seen.has(phase)),
    during: (phase) => over(probes.flatMap((probe) => duringPhase(investigation, probe, phase))),
  };
}

/** Rows of a probe, at least two of each phase that the unit was recorded in. */
function drawProbe(investigation: Investigation, name: string, limits: SampleLimits, more: readonly number[]): Probe {
  const drawn = investigation.draw(name, limits);
  const table = investigation.observations.rows;
  const rows = new Set([...drawn.rows, ...more]);
  const count = new Map<Phase, number>();
  for (const row of rows) count.set(table.phaseOf(row), (count.get(table.phaseOf(row)) ?? 0) + 1);
  // From the end: there a row has most keys.
  const recorded = investigation.observations.outputRows(name);
  for (let i = recorded.length - 1; i >= 0; i--) {
    const row = recorded[i]!;
    const known = count.get(table.phaseOf(row)) ?? 0;
    if (known >= fewestOfPhase || rows.has(row)) continue;
    rows.add(row);
    count.set(table.phaseOf(row), known + 1);
  }
  return { name, sample: { ...drawn, rows: Int32Array.from(rows).sort() } };
}

/** Rows by which a phase is represented in a probe. */
const fewestOfPhase = 2;

function duringPhase({ observations }: Investigation, { name, sample }: Probe, phase: Phase): Probe[] {
  const rows = sample.rows.filter((row) => observations.rows.phaseOf(row) === phase);
  return rows.length > 0 ? [{ name, sample: { ...sample, rows } }] : [];
}

/** Rows and columns of each probe that a glance takes in, at least. */
const glanced = { rows: 2, columns: 16 };

/** A few elements of a probe as they were recorded. */
interface Glance extends Probe {
  readonly observed: Float64Array;
}

function glanceAt(investigation: Investigation, { name, sample }: Probe): Glance {
  const rows = everyNth(sample.rows, glanced.rows);
  const columns = everyNth(sample.columns, glanced.columns);
  return {
    name,
    sample: { rows, columns },
    observed: withoutScratch(() => investigation.observed(name, rows, columns)),
  };
}

function nearnessOf(
  { graph, observations, evaluator }: Investigation,
  glances: readonly Glance[],
  recipe: UnitRecipe,
): Nearness | undefined {
  const parts: Nearness[] = [];
  for (const { name, sample, observed } of glances) {
    const dtype = observations.dtype(name)!;
    if (dtype === "float32") return undefined;
    const under = evaluator.under(recipe, graph.node(name), false);
    parts.push(withScratch(() => nearness(under, name, sample, observed, dtype)));
  }
  return together(parts);
}

/** An even spread of `count` indices or a few more, the last among them. */
function everyNth(of: Int32Array, count: number): Int32Array {
  const step = Math.max(1, Math.floor(of.length / count));
  return of.filter((_, i) => (of.length - 1 - i) % step === 0);
}

function scoreOf(investigation: Investigation, probes: readonly Probe[], recipe: UnitRecipe): RecipeScore {
  let equal = 0;
  let compared = 0;
  let matched = true;
  for (const { name, sample } of probes) {
    const under = withScratch(
      () => investigation.checkUnder(name, recipe, investigation.evaluator, sample, undefined, true).judgement,
    );
    const { equal: same = 0, compared: of = 0, surprise = 0 } = under.bits ?? {};
    // In float32 hardly an element is the same: how improbable the worst one is, tells recipes apart.
    equal += investigation.observations.dtype(name) === "float32" ? of / (1 + Math.log1p(surprise)) : same;
    compared += of;
    matched &&= under.matched;
  }
  return { equal, compared, matched };
}
