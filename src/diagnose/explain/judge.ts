import type { Evaluator } from "../../spec/evaluator.js";
import type { Statistics } from "../bits/statistics.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { Explanation } from "./explanation.js";
import { type Distance, type NearestCause, NearestCauses } from "./nearest-causes.js";
import { Probes, promising, type Rounded } from "./probes.js";
import { distances, farthestZ, isTypical } from "./remainder.js";
import { SpanBits } from "./span-bits.js";

/** A probe this far beyond the limits rules a hypothesis out. */
const probeTolerance = 3;
/** Share of a unit's errors that a rewrite may leave and be looked at more closely. */
const worthwhile = 0.9;
/** How much larger the noise of a small unit may be with a rewrite than without. */
const roughly = 10;
/** Relative difference of two evaluations in float64 that mean the same. */
const same = 1e-9;

/** Most of a unit's distance from its record that a rewrite may leave, where the noise model judges. */
const mostLeft = 0.5;

/** Tries hypotheses on units: cheaply first, then by bits, then by the noise model. */
export class Judge {
  readonly #quietOnes = new WeakMap<Evaluator, Evaluator>();
  readonly #nearest = new WeakMap<UnitCheck, NearestCauses>();
  readonly probes: Probes;
  readonly spans: SpanBits;

  constructor(readonly investigation: Investigation) {
    this.probes = new Probes(investigation);
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
      const nearest = this.probes.nearest(check, evaluator, hypothesis);
      if (!nearest) return undefined;
      this.note(check, hypothesis, { near: nearest.near, before: this.probes.of(check).before });
      const byBits = this.#byBits(check, hypothesis, evaluator, nearest);
      if (byBits) return byBits;
    }
    // Within rounding already: only bits can say more.
    if (check.excess <= 1) return undefined;
    const bySpan = this.spans.judge(check, hypothesis, evaluator);
    if (bySpan) return bySpan;
    if (hypothesis.fitted === 0) {
      if (!this.#comesNear(check, hypothesis, this.quiet(base).rewritten(hypothesis.replacements))) return undefined;
      const probe = investigation.checkNoise(name, evaluator, this.probes.of(check).sample);
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
    const { sample, observed, at } = this.probes.of(check);
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

  #byBits(
    check: UnitCheck,
    hypothesis: Hypothesis,
    evaluator: Evaluator,
    { recipe, near }: Rounded,
  ): Explanation | undefined {
    const { investigation } = this;
    const { name } = check.node;
    const coarse = investigation.observations.dtype(name) !== "float32";
    if (coarse && near.equal < promising * near.compared) return undefined;
    for (const candidate of this.probes.candidates(check, evaluator, recipe, coarse ? near : undefined)) {
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
    const { rows, columns } = this.probes.of(check).sample;
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
}

/** An explanation must say something: half of what was checkable stays checkable. */
function isInformative(check: UnitCheck, { checked }: Statistics, { heldOut }: Hypothesis): boolean {
  return checked * 2 >= check.statistics.checked * (heldOut ? 0.4 : 1);
}
