import type { Evaluator } from "../../spec/evaluator.js";
import type { UnitRecipe } from "../../spec/recipe.js";
import { roleOf } from "../../spec/site.js";
import { type Nearness, nearness } from "../bits/bits.js";
import type { Sample } from "../bits/sample.js";
import type { Statistics } from "../bits/statistics.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { Explanation } from "./explanation.js";
import { type Distance, type NearestCause, NearestCauses } from "./nearest-causes.js";
import { probeSample } from "./probe-sample.js";
import { distances, farthestZ, isTypical } from "./remainder.js";
import { SpanBits } from "./span-bits.js";

/** A probe this far beyond the limits rules a hypothesis out. */
const probeTolerance = 3;
/** How much larger the noise of a small unit may be with a rewrite than without. */
const roughly = 10;
/** Share of a probe's bits below which a closer look at them is a waste. */
const promising = 0.9;
/** What a hypothesis must at least improve on: the distance of the spec, or this share of the elements. */
const worthwhile = 0.9;
const improvement = 0.02;
/** Relative difference of two evaluations in float64 that mean the same. */
const same = 1e-9;

/** Most of a unit's distance from its record that a rewrite may leave, where the noise model judges. */
const mostLeft = 0.5;

interface Probe {
  readonly sample: Sample;
  readonly observed: Float64Array;
  readonly before: Nearness;
  readonly byRecipe: Map<UnitRecipe, Nearness>;
  /** Where its elements are in the unit's comparison. */
  readonly at: Int32Array;
}

/** Tries hypotheses on units: cheaply first, then by bits, then by the noise model. */
export class Judge {
  readonly #probes = new WeakMap<UnitCheck, Probe>();
  readonly #quietOnes = new WeakMap<Evaluator, Evaluator>();
  readonly #known = new WeakMap<UnitCheck, UnitRecipe[]>();
  readonly #nearest = new WeakMap<UnitCheck, NearestCauses>();
  readonly spans: SpanBits;

  constructor(readonly investigation: Investigation) {
    this.spans = new SpanBits(investigation);
  }

  /** The explanation a hypothesis gives, or undefined when it does not explain. */
  judge(
    check: UnitCheck,
    hypothesis: Hypothesis,
    base: Evaluator = this.investigation.evaluator,
  ): Explanation | undefined {
    const { investigation } = this;
    const { name } = check.node;
    const evaluator = base.rewritten(hypothesis.replacements);
    if (investigation.hasBits(name)) {
      const nearest = this.nearest(check, evaluator, hypothesis);
      if (!nearest) return undefined;
      this.note(check, hypothesis, { near: nearest.near, before: this.#probe(check).before });
      const byBits = this.#byBits(check, hypothesis, evaluator, nearest);
      if (byBits) return byBits;
    }
    // Within rounding already: only bits can say more.
    if (check.excess <= 1) return undefined;
    const bySpan = this.spans.judge(check, hypothesis, evaluator);
    if (bySpan) return bySpan;
    if (hypothesis.fitted === 0) {
      if (!this.#comesNear(check, hypothesis, this.quiet(base).rewritten(hypothesis.replacements))) return undefined;
      const probe = investigation.checkNoise(name, evaluator, this.#probe(check).sample);
      if (probe.excess > probeTolerance) return undefined;
    }
    const whole = investigation.checkNoise(name, evaluator, undefined, hypothesis.heldOut);
    if (whole.excess > 1 || !isInformative(check, whole.statistics, hypothesis)) return undefined;
    if (!isTypical(whole.statistics)) return undefined;
    const [before, left] = distances(check.comparison, whole.comparison, hypothesis.heldOut);
    // What blurs a unit until its record lies within does not explain it.
    if (left > mostLeft * before) return undefined;
    return { hypothesis, statistics: whole.statistics, excess: whole.excess, left, matched: false, bits: undefined };
  }

  /** Takes note of how near a hypothesis brings a unit to its record. */
  note(check: UnitCheck, hypothesis: Hypothesis, distance: Distance): void {
    const nearest = this.#nearest.get(check) ?? new NearestCauses();
    this.#nearest.set(check, nearest);
    nearest.note(hypothesis, distance);
  }

  /** The causes that came nearest to a unit, explained or not. */
  nearestOf(check: UnitCheck): readonly NearestCause[] {
    return this.#nearest.get(check)?.best ?? [];
  }

  /** The same evaluation without noise; rewrites of it share what they do not touch. */
  quiet(evaluator: Evaluator): Evaluator {
    let quiet = this.#quietOnes.get(evaluator);
    if (!quiet) {
      quiet = evaluator.withoutNoise();
      this.#quietOnes.set(evaluator, quiet);
    }
    return quiet;
  }

  /** Whether a rewrite brings a unit nearer to its record, and near enough, by values alone: their noise is what costs. */
  #comesNear(check: UnitCheck, hypothesis: Hypothesis, evaluator: Evaluator): boolean {
    const { sample, observed, at } = this.#probe(check);
    const { noise, z } = check.comparison;
    const { value } = evaluator.evaluate(check.node.name, sample.rows, sample.columns);
    let before = 0;
    let after = 0;
    let counted = 0;
    for (let i = 0; i < observed.length; i++) {
      const sigma = noise[at[i]!]!;
      if (!Number.isFinite(sigma)) continue;
      counted++;
      before += Math.min(farthestZ, Math.abs(z[at[i]!]!)) ** 2;
      const off = sigma > 0 ? Math.abs(observed[i]! - value[i]!) / sigma : 0;
      after += Math.min(farthestZ, Number.isNaN(off) ? farthestZ : off) ** 2;
    }
    this.note(check, hypothesis, { errors: Math.sqrt(after), before: Math.sqrt(before) });
    if (this.investigation.hasBits(check.node.name) && after > (roughly * probeTolerance) ** 2 * counted) return false;
    return after <= worthwhile * before;
  }

  /** The recipe under which a rewritten unit comes nearest to the record; undefined when it comes no nearer than the spec. */
  nearest(
    check: UnitCheck,
    evaluator: Evaluator,
    hypothesis: Hypothesis,
  ): { recipe: UnitRecipe; near: Nearness } | undefined {
    const { node } = check;
    const { sample, observed, before } = this.#probe(check);
    const dtype = this.investigation.observations.dtype(node.name)!;
    let best: { recipe: UnitRecipe; near: Nearness } | undefined;
    for (const recipe of this.#recipes(check, hypothesis)) {
      const near = nearness(evaluator.under(recipe, node, false), node.name, sample, observed, dtype);
      if (!best || better(near, best.near)) best = { recipe, near };
      if (near.equal === near.compared) break;
    }
    if (!best || !nearer(best.near, before)) return undefined;
    if (best.near.equal < promising * best.near.compared) {
      // Nearer, and not there: what is wrong may be another implementation, which rounds in its own way.
      for (const recipe of this.#otherRecipes(check)) {
        const near = nearness(evaluator.under(recipe, node, false), node.name, sample, observed, dtype);
        if (better(near, best.near)) best = { recipe, near };
      }
    }
    // What another recipe alone gives is not the rewrite's merit.
    return nearer(best.near, this.#asMeant(check, best.recipe)) ? best : undefined;
  }

  /** How near the spec comes under a recipe. */
  #asMeant(check: UnitCheck, recipe: UnitRecipe): Nearness {
    const { sample, observed, byRecipe } = this.#probe(check);
    let near = byRecipe.get(recipe);
    if (!near) {
      const { name } = check.node;
      const spec = this.investigation.evaluator.under(recipe, check.node, false);
      near = nearness(spec, name, sample, observed, this.investigation.observations.dtype(name)!);
      byRecipe.set(recipe, near);
    }
    return near;
  }

  #byBits(
    check: UnitCheck,
    hypothesis: Hypothesis,
    evaluator: Evaluator,
    { recipe, near }: { recipe: UnitRecipe; near: Nearness },
  ): Explanation | undefined {
    const { investigation } = this;
    const { name } = check.node;
    const coarse = investigation.observations.dtype(name) !== "float32";
    if (coarse && near.equal < promising * near.compared) return undefined;
    for (const candidate of this.#candidates(check, evaluator, recipe, coarse ? near : undefined)) {
      const found = investigation.checkUnder(name, candidate, evaluator, undefined, hypothesis.heldOut, true);
      if (!found.matched || !isInformative(check, found.statistics, hypothesis)) continue;
      // Another order of the same arithmetic is a way of rounding, not a cause; nor is what chance may turn over.
      if (check.excess <= 1 && (!this.#isEvident(check, found) || this.#isSame(check, evaluator))) return undefined;
      investigation.remember(name, candidate);
      const { statistics, excess, bits } = found;
      const explained = { ...hypothesis, recipes: new Map([[name, candidate]]) };
      return { hypothesis: explained, statistics, excess, left: 0, matched: true, bits };
    }
    return undefined;
  }

  /**
   * Whether a unit within rounding is given back by more than chance. Where a kernel rounds in a way nobody described, a
   * small change of the numbers turns an element near a boundary to the recorded side or not, with even chances; and for
   * each one that it turns there is another as near that it must leave alone. It was tried under several ways of rounding,
   * in each phase: their number is paid for.
   */
  #isEvident(check: UnitCheck, { bits, recipe }: UnitCheck): boolean {
    const { node, bits: spec } = check;
    if (this.investigation.observations.dtype(node.name) === "float32" || !spec || !bits) return true;
    const turned = bits.equal - spec.equal * (bits.compared / spec.compared);
    const choices = (recipe?.ways.length ?? 1) * Math.log(node.op.recipes?.length ?? 1);
    return 2 * turned * Math.LN2 > this.investigation.limit + choices;
  }

  /** Whether a rewrite means what the spec means: the same numbers, were nothing rounded. */
  #isSame(check: UnitCheck, evaluator: Evaluator): boolean {
    const { rows, columns } = this.#probe(check).sample;
    const { name } = check.node;
    const meant = this.investigation.evaluator.evaluate(name, rows, columns).value;
    const rewritten = evaluator.evaluate(name, rows, columns).value;
    let apart = 0;
    let size = 0;
    for (let i = 0; i < meant.length; i++) {
      apart = Math.max(apart, Math.abs(meant[i]! - rewritten[i]!));
      size = Math.max(size, Math.abs(meant[i]!));
    }
    return apart <= same * size;
  }

  /** The nearest rounding, then others that come as near: the few elements of a probe may not tell them apart. */
  *#candidates(check: UnitCheck, evaluator: Evaluator, nearest: UnitRecipe, near?: Nearness): Generator<UnitRecipe> {
    yield nearest;
    if (!near) return;
    const { node } = check;
    const { sample, observed } = this.#probe(check);
    const dtype = this.investigation.observations.dtype(node.name)!;
    for (const recipe of this.#otherRecipes(check)) {
      const other = nearness(evaluator.under(recipe, node, false), node.name, sample, observed, dtype);
      if (other.equal >= near.equal) yield recipe;
    }
  }

  /**
   * The role's recipes, and the unit's own nearest one: what is wrong may be another kernel's. Values that a hypothesis
   * introduces may be stored on their way or not.
   */
  #recipes(check: UnitCheck, { replacements }: Hypothesis): UnitRecipe[] {
    const { graph } = this.investigation;
    let recipes = this.#known.get(check);
    if (!recipes) {
      const ofRole = this.investigation.recipesFor(check.node.name);
      const own = check.recipe;
      recipes = !own || ofRole.some((recipe) => sameRecipe(recipe, own)) ? ofRole : [...ofRole, own];
      this.#known.set(check, recipes);
    }
    const added = replacements.filter(({ name }) => !graph.find(name)).map(roleOf);
    if (added.length === 0) return recipes;
    const kept = recipes.map((recipe) => added.reduce((so, role) => so.with({ kept: [role, true] }), recipe));
    return [...recipes, ...kept];
  }

  /** All ways in which the unit's op is known to round, but for finer forms of them. */
  #otherRecipes(check: UnitCheck): UnitRecipe[] {
    const { name, op } = check.node;
    const [usual] = this.investigation.recipesFor(name);
    return (op.recipes ?? [])
      .filter(({ refines }) => refines === undefined)
      .map((recipe) => usual!.with({ op: [roleOf(check.node), recipe] }));
  }

  #probe(check: UnitCheck): Probe {
    let probe = this.#probes.get(check);
    if (!probe) {
      const { investigation } = this;
      const { name } = check.node;
      const sample = probeSample(check);
      const observed = investigation.observed(name, sample.rows, sample.columns);
      const dtype = investigation.observations.dtype(name)!;
      const recipe = check.recipe ?? investigation.recipesFor(name)[0]!;
      const spec = investigation.evaluator.under(recipe, check.node, false);
      const before = investigation.hasBits(name)
        ? nearness(spec, name, sample, observed, dtype)
        : { compared: 0, equal: 0, ulps: Infinity };
      probe = { sample, observed, before, byRecipe: new Map(), at: placesIn(check.comparison, sample) };
      this.#probes.set(check, probe);
    }
    return probe;
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

/** An explanation must say something: half of what was checkable stays checkable. */
function isInformative(check: UnitCheck, { checked }: Statistics, { heldOut }: Hypothesis): boolean {
  return checked * 2 >= check.statistics.checked * (heldOut ? 0.4 : 1);
}

function sameRecipe(a: UnitRecipe, b: UnitRecipe): boolean {
  const same = (p: Iterable<unknown>, q: Iterable<unknown>) => [...p].join() === [...q].join();
  const ids = ({ ops }: UnitRecipe) => [...ops].map(([role, { id }]) => `${role} ${id}`).sort();
  if (a.phases.size !== b.phases.size) return false;
  for (const [phase, own] of a.phases) if (!sameRecipe(own, b.at(phase))) return false;
  return same(ids(a), ids(b)) && same([...a.kept].sort(), [...b.kept].sort()) && same(a.recomputed, b.recomputed);
}

/** Whether `a` is worth a closer look beside `b`. */
function nearer(a: Nearness, b: Nearness): boolean {
  return a.equal >= b.equal + improvement * a.compared || a.ulps < worthwhile * b.ulps;
}

function better(a: Nearness, b: Nearness): boolean {
  const lead = a.equal - b.equal;
  return Math.abs(lead) > 0.01 * a.compared ? lead > 0 : a.ulps < b.ulps;
}
