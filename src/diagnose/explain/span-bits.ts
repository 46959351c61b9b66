import type { Evaluator } from "../../spec/evaluator.js";
import type { UnitRecipe } from "../../spec/recipe.js";
import { roleOf } from "../../spec/site.js";
import { type Nearness, nearness } from "../bits/nearness.js";
import type { Hypothesis } from "../causes/hypothesis.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import type { Explanation } from "./explanation.js";

/** Share of a span's bits from which flips are worth to be worked out, row by row through all of its ops. */
const promising = 0.75;

/**
 * Bits of a unit over many unrecorded ops, under the roundings that the run has elsewhere. Nobody searches for a recipe across so
 * many ops, but where those are the run's own, a right rewrite gives nearly all bits and a wrong one does not.
 */
export class SpanBits {
  readonly #before = new WeakMap<UnitCheck, Nearness>();
  readonly #tries = new WeakMap<UnitCheck, number>();

  constructor(readonly investigation: Investigation) {}

  /** Whether a record is coarse enough for equal bits to say something. */
  decides({ node }: UnitCheck): boolean {
    const { investigation } = this;
    return !investigation.hasBits(node.name) && investigation.observations.dtype(node.name) !== "float32";
  }

  /** One more rewrite was looked at: so many chances to come near by accident. */
  count(check: UnitCheck): void {
    this.#tries.set(check, this.tries(check) + 1);
  }

  /** Rewrites that were looked at. */
  tries(check: UnitCheck): number {
    return this.#tries.get(check) ?? 0;
  }

  /** The run's roundings, under which what a rewrite introduces reaches its consumer as it is, and as it is stored. */
  recipes({ node }: UnitCheck, hypothesis: Hypothesis): UnitRecipe[] {
    const { investigation } = this;
    const usual = investigation.book.start(investigation.interior(node.name));
    const added = hypothesis.replacements.filter(({ name }) => !investigation.graph.find(name)).map(roleOf);
    if (added.length === 0) return [usual];
    return [added.reduce((so, role) => so.with({ kept: [role, true] }), usual), usual];
  }

  /** The explanation a rewrite gives by the bits of a span; undefined when most of them do not come out with it. */
  judge(check: UnitCheck, hypothesis: Hypothesis, evaluator: Evaluator): Explanation | undefined {
    if (!this.decides(check)) return undefined;
    for (const recipe of this.recipes(check, hypothesis)) {
      const near = this.#near(check, evaluator, recipe);
      if (near.equal < promising * near.compared || !this.#isEvident(check, near)) continue;
      const { name } = check.node;
      const found = this.investigation.checkUnder(name, recipe, evaluator, undefined, hypothesis.heldOut);
      if (!found.matched) continue;
      const { statistics, excess, bits } = found;
      const explained = { ...hypothesis, recipes: new Map([[name, recipe]]) };
      return { hypothesis: explained, statistics, excess, left: 0, matched: true, bits };
    }
    return undefined;
  }

  /**
   * Whether more bits came right than accident turns over, at even chances each, in as many tries; a bit for which another
   * went wrong counts for nothing.
   */
  #isEvident(check: UnitCheck, near: Nearness): boolean {
    let before = this.#before.get(check);
    if (!before) {
      const usual = this.investigation.book.start(this.investigation.interior(check.node.name));
      before = this.#near(check, this.investigation.evaluator, usual);
      this.#before.set(check, before);
    }
    const turned = near.equal - before.equal;
    return 2 * turned * Math.LN2 > this.investigation.limit + Math.log(Math.max(1, this.tries(check)));
  }

  #near({ node }: UnitCheck, evaluator: Evaluator, recipe: UnitRecipe): Nearness {
    const { investigation } = this;
    const sample = investigation.sample(node.name);
    const observed = investigation.observed(node.name, sample.rows, sample.columns);
    const dtype = investigation.observations.dtype(node.name)!;
    return nearness(evaluator.under(recipe, node, false), node.name, sample, observed, dtype);
  }
}
