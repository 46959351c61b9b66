import type { GraphNode } from "../../spec/graph.js";
import type { UnitRecipe } from "../../spec/recipe.js";
import { withoutScratch } from "../../tensor/scratch.js";
import type { BitMatch } from "../bits/bits.js";
import type { Comparison, Statistics } from "../bits/statistics.js";

/** What was compared of a unit. */
export interface Coverage {
  /** Elements compared one by one. */
  readonly compared: number;
  /** Elements that took part in a sum in which a wrong one stands out. */
  readonly summed: number;
  /** Elements recorded. */
  readonly of: number;
}

/** What the recorded numbers of one value look like, over its sample. */
export interface Magnitude {
  /** Largest finite |x|. */
  readonly largest: number;
  readonly zeros: boolean;
  readonly constant: boolean;
  readonly notANumber: number;
  readonly infinite: number;
}

interface Judgement {
  readonly node: GraphNode;
  /** The recipe that comes nearest to the recorded bits; undefined where bits decide nothing. */
  readonly recipe: UnitRecipe | undefined;
  /** How near. */
  readonly bits: BitMatch | undefined;
  /** Whether that recipe gives the recorded bits, up to the order of summation. */
  readonly matched: boolean;
  readonly statistics: Statistics;
  /** What the recorded numbers look like. */
  readonly magnitude: Magnitude;
  /** Above 1 the unit fails. */
  readonly excess: number;
  readonly coverage: Coverage;
}

/** A unit, judged: the output of one captured value from its nearest captured inputs. */
export class UnitCheck implements Judgement {
  readonly node: GraphNode;
  readonly recipe: UnitRecipe | undefined;
  readonly bits: BitMatch | undefined;
  readonly matched: boolean;
  readonly statistics: Statistics;
  readonly magnitude: Magnitude;
  readonly excess: number;
  readonly coverage: Coverage;
  readonly #compare: () => Comparison;
  #comparison: Comparison | undefined;

  /** @param compare the unit's sample element by element; most units are right, and nobody asks. */
  constructor(judgement: Judgement, compare: () => Comparison) {
    this.node = judgement.node;
    this.recipe = judgement.recipe;
    this.bits = judgement.bits;
    this.matched = judgement.matched;
    this.statistics = judgement.statistics;
    this.magnitude = judgement.magnitude;
    this.excess = judgement.excess;
    this.coverage = judgement.coverage;
    this.#compare = compare;
  }

  get comparison(): Comparison {
    this.#comparison ??= withoutScratch(this.#compare);
    return this.#comparison;
  }

  /** The same check with something known better. */
  with(change: Partial<Judgement>): UnitCheck {
    return new UnitCheck({ ...this.judgement, ...change }, () => this.comparison);
  }

  /** Everything that needs no evaluation. */
  get judgement(): Judgement {
    const { node, recipe, bits, matched, statistics, magnitude, excess, coverage } = this;
    return { node, recipe, bits, matched, statistics, magnitude, excess, coverage };
  }
}

/** @param observed recorded elements of a unit's sample. */
export function magnitudeOf(observed: Float64Array): Magnitude {
  let largest = 0;
  let notANumber = 0;
  let infinite = 0;
  let constant = true;
  for (const x of observed) {
    if (x !== observed[0]) constant = false;
    if (Number.isNaN(x)) notANumber++;
    else if (!Number.isFinite(x)) infinite++;
    else if (Math.abs(x) > largest) largest = Math.abs(x);
  }
  return { largest, zeros: constant && observed[0] === 0, constant, notANumber, infinite };
}
