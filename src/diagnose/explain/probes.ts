import type { Evaluator } from "../../spec/evaluator.js";
import { telling } from "../../spec/narrow-operands.js";
import type { UnitRecipe } from "../../spec/recipe.js";
import { roleOf } from "../../spec/site.js";
import { farApart, type Nearness, nearer, nearness } from "../bits/nearness.js";
import type { Sample } from "../bits/sample.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import { glanceSample, probeSample } from "./probe-sample.js";

/** Share of a probe's bits below which another implementation may be what is wrong. */
export const promising = 0.9;
/** Recipes of one rewrite that are probed. */
const mostProbed = 3;

/** A sample as it was recorded, and how near the spec comes to it: under the unit's recipe, and under others. */
interface Look {
  readonly sample: Sample;
  readonly observed: Float64Array;
  readonly before: Nearness;
  readonly byRecipe: Map<UnitRecipe, Nearness>;
}

interface Probe extends Look {
  /** Where its elements are in the unit's comparison. */
  readonly at: Int32Array;
  /** A few elements, on which most hypotheses are ruled out already. */
  readonly glance: Look;
}

/** A recipe with how near a rewrite comes under it. */
export interface Rounded {
  readonly recipe: UnitRecipe;
  readonly near: Nearness;
}

/** Holds rewrites of a unit against a few of its recorded bits: a glance first, then a probe. */
export class Probes {
  readonly #probes = new WeakMap<UnitCheck, Probe>();
  readonly #known = new WeakMap<UnitCheck, UnitRecipe[]>();
  readonly #others = new WeakMap<UnitCheck, UnitRecipe[]>();
  readonly #further = new WeakMap<UnitCheck, UnitRecipe[]>();

  constructor(readonly investigation: Investigation) {}

  /** The recipe under which a rewritten unit comes nearest to the record; undefined when it comes no nearer than the spec. */
  nearest(check: UnitCheck, evaluator: Evaluator, hypothesis: Hypothesis): Rounded | undefined {
    const { before } = this.of(check);
    let best = this.#nearestOf(check, evaluator, this.#recipes(check, hypothesis));
    if (!best || !nearer(best.near, before)) return undefined;
    if (best.near.equal < promising * best.near.compared) {
      // Nearer, and not there: what is wrong may be another implementation, which rounds in its own way.
      const other = this.#nearestOf(check, evaluator, this.#untried(check));
      if (other && better(other.near, best.near)) best = other;
    }
    // What another recipe alone gives is not the rewrite's merit.
    return nearer(best.near, this.#asMeant(check, best.recipe, this.of(check))) ? best : undefined;
  }

  /** The one of some recipes under which a rewrite brings the probe nearest to its record. */
  #nearestOf(check: UnitCheck, evaluator: Evaluator, recipes: readonly UnitRecipe[]): Rounded | undefined {
    let best: Rounded | undefined;
    for (const recipe of this.#atAGlance(check, evaluator, recipes)) {
      const near = this.#nearness(check, evaluator, recipe, this.of(check));
      if (!best || better(near, best.near)) best = { recipe, near };
      if (near.equal === near.compared) break;
    }
    return best;
  }

  /** Recipes that are worth a probe, nearest first: those under which a rewrite brings a few elements nearer to the record. */
  #atAGlance(check: UnitCheck, evaluator: Evaluator, recipes: readonly UnitRecipe[]): UnitRecipe[] {
    const { glance } = this.of(check);
    const near = (recipe: UnitRecipe) => this.#nearness(check, evaluator, recipe, glance);
    const [first, ...others] = recipes;
    if (!first) return [];
    const nearFirst = near(first);
    // What goes so far astray does not come back by being rounded in another way.
    const isAstray = glance.before.ulps > farApart && !nearer(nearFirst, glance.before);
    if (isAstray && !isAsNear(nearFirst, this.#asMeant(check, first, glance))) return [];
    return [{ recipe: first, near: nearFirst }, ...others.map((recipe) => ({ recipe, near: near(recipe) }))]
      .filter((one) => nearer(one.near, glance.before))
      .sort((a, b) => b.near.equal - a.near.equal || a.near.ulps - b.near.ulps)
      .slice(0, mostProbed)
      .map(({ recipe }) => recipe);
  }

  #nearness({ node }: UnitCheck, evaluator: Evaluator, recipe: UnitRecipe, { sample, observed }: Look): Nearness {
    const dtype = this.investigation.observations.dtype(node.name)!;
    return nearness(evaluator.under(recipe, node, false), node.name, sample, observed, dtype);
  }

  /** How near the spec comes under a recipe. */
  #asMeant(check: UnitCheck, recipe: UnitRecipe, look: Look): Nearness {
    let near = look.byRecipe.get(recipe);
    if (!near) {
      near = this.#nearness(check, this.investigation.evaluator, recipe, look);
      look.byRecipe.set(recipe, near);
    }
    return near;
  }

  /** The nearest rounding, then others that come as near: the few elements of a probe may not tell them apart. */
  *candidates(check: UnitCheck, evaluator: Evaluator, nearest: UnitRecipe, near?: Nearness): Generator<UnitRecipe> {
    yield nearest;
    if (!near) return;
    for (const recipe of this.#otherRecipes(check)) {
      const other = this.#nearness(check, evaluator, recipe, this.of(check));
      if (other.equal >= near.equal) yield recipe;
    }
  }

  /**
   * The role's recipes, and the unit's own nearest one: what is wrong may be another kernel's. Values that a hypothesis
   * introduces may be stored on their way or not.
   */
  #recipes(check: UnitCheck, { replacements }: Hypothesis): UnitRecipe[] {
    const { graph } = this.investigation;
    const recipes = this.#knownRecipes(check);
    const added = replacements.filter(({ name }) => !graph.find(name)).map(roleOf);
    if (added.length === 0) return recipes;
    const kept = recipes.map((recipe) => added.reduce((so, role) => so.with({ kept: [role, true] }), recipe));
    return [...recipes, ...kept];
  }

  #knownRecipes(check: UnitCheck): UnitRecipe[] {
    let recipes = this.#known.get(check);
    if (!recipes) {
      const ofRole = this.investigation.recipesFor(check.node.name);
      const own = check.recipe;
      recipes = !own || ofRole.some((recipe) => sameRecipe(recipe, own)) ? ofRole : [...ofRole, own];
      this.#known.set(check, recipes);
    }
    return recipes;
  }

  /** All ways in which the unit's op is known to round, but for finer forms of them. */
  #otherRecipes(check: UnitCheck): UnitRecipe[] {
    let recipes = this.#others.get(check);
    if (!recipes) {
      const { name, op } = check.node;
      const [usual] = this.investigation.recipesFor(name);
      recipes = telling(op.recipes, this.investigation.precision.store)
        .filter(({ refines }) => refines === undefined)
        .map((recipe) => usual!.with({ op: [roleOf(check.node), recipe] }));
      this.#others.set(check, recipes);
    }
    return recipes;
  }

  /** Those that no hypothesis is tried under to begin with. */
  #untried(check: UnitCheck): UnitRecipe[] {
    let recipes = this.#further.get(check);
    if (!recipes) {
      const known = this.#knownRecipes(check);
      recipes = this.#otherRecipes(check).filter((other) => !known.some((one) => sameRecipe(one, other)));
      this.#further.set(check, recipes);
    }
    return recipes;
  }

  /** The probe of a unit. */
  of(check: UnitCheck): Probe {
    let probe = this.#probes.get(check);
    if (!probe) {
      const look = this.#look(check, probeSample(check));
      const glance = this.#look(check, glanceSample(check));
      probe = { ...look, at: placesIn(check.comparison, look.sample), glance };
      this.#probes.set(check, probe);
    }
    return probe;
  }

  #look(check: UnitCheck, sample: Sample): Look {
    const { investigation } = this;
    const { name } = check.node;
    const observed = investigation.observed(name, sample.rows, sample.columns);
    const recipe = check.recipe ?? investigation.recipesFor(name)[0]!;
    const spec = investigation.evaluator.under(recipe, check.node, false);
    const before = investigation.hasBits(name)
      ? nearness(spec, name, sample, observed, investigation.observations.dtype(name)!)
      : { compared: 0, equal: 0, ulps: Infinity };
    return { sample, observed, before, byRecipe: new Map() };
  }
}

/** Index of each element of a sample in the comparison that it was drawn from. */
function placesIn({ rows, columns }: Sample, sample: Sample): Int32Array {
  const width = sample.columns.length;
  return Int32Array.from(
    { length: sample.rows.length * width },
    (_, i) =>
      rows.indexOf(sample.rows[Math.floor(i / width)]!) * columns.length + columns.indexOf(sample.columns[i % width]!),
  );
}

function sameRecipe(a: UnitRecipe, b: UnitRecipe): boolean {
  const same = (p: Iterable<unknown>, q: Iterable<unknown>) => [...p].join() === [...q].join();
  const ids = ({ ops }: UnitRecipe) => [...ops].map(([role, { id }]) => `${role} ${id}`).sort();
  if (a.phases.size !== b.phases.size) return false;
  for (const [phase, own] of a.phases) if (!sameRecipe(own, b.at(phase))) return false;
  return same(ids(a), ids(b)) && same([...a.kept].sort(), [...b.kept].sort()) && same(a.recomputed, b.recomputed);
}

/** Whether a rewrite changes nothing: it may be of something that another recipe alone has. */
function isAsNear(a: Nearness, b: Nearness): boolean {
  return a.equal === b.equal && a.ulps === b.ulps;
}

function better(a: Nearness, b: Nearness): boolean {
  const lead = a.equal - b.equal;
  return Math.abs(lead) > 0.01 * a.compared ? lead > 0 : a.ulps < b.ulps;
}
