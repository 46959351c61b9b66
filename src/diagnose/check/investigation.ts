import type { Capture } from "../../capture/capture.js";
import type { Viewpoint } from "../../capture/observations.js";
import type { Evaluator } from "../../spec/evaluator.js";
import type { GraphNode } from "../../spec/graph.js";
import type { ModelConfig } from "../../spec/models/config.js";
import { telling } from "../../spec/narrow-operands.js";
import type { Precision } from "../../spec/noise.js";
import type { UnitRecipe } from "../../spec/recipe.js";
import { roleOf } from "../../spec/site.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import { type Included, matchBits } from "../bits/bits.js";
import { excess, surpriseLimit } from "../bits/limits.js";
import { RecipeBook, type SettledRecipe } from "../bits/recipe-book.js";
import type { Sample, SampleLimits } from "../bits/sample.js";
import { type Comparison, compareBlock, type Statistics, statisticsOf, statisticsOfBits } from "../bits/statistics.js";
import { recipeSearch } from "./recipe-probes.js";
import { RecordedRun, type SharedRun } from "./recorded-run.js";
import { magnitudeOf, UnitCheck } from "./unit-check.js";

export { UnitCheck } from "./unit-check.js";

const probeLimits: SampleLimits = { rows: 6, columns: 192 };
const ownLimits: SampleLimits = { rows: 12, columns: 512 };
const probedUnits = 3;

/** A recorded run and how its units are judged: by the bits of recipes, and where none is in reach by the noise model. */
export class Investigation extends RecordedRun {
  readonly book: RecipeBook;
  /** Surprise from which a statement counts, by the size of the recording. */
  readonly limit: number;
  readonly #recipes = new Map<string, UnitRecipe>();
  readonly #views = new Map<number, Investigation>();
  #quiet: Evaluator | undefined;

  constructor(
    capture: Capture,
    config: ModelConfig,
    parameters: ParameterReader,
    shared: Partial<SharedRun> & { book?: RecipeBook } = {},
  ) {
    super(capture, config, parameters, shared);
    this.book = shared.book ?? new RecipeBook(this.precision.store);
    this.limit = surpriseLimit(recordedElements(capture));
  }

  /** The spec by values alone; what is not recorded is evaluated once for all who ask. */
  get quiet(): Evaluator {
    this.#quiet ??= this.evaluator.withoutNoise();
    return this.#quiet;
  }

  /** The same investigation under another compute precision. */
  withCompute(compute: Precision["compute"]): Investigation {
    const { capture, config, parameters, observations, precision } = this;
    return new Investigation(capture, config, parameters, { observations, precision: { ...precision, compute } });
  }

  /** The same investigation with a rewritten spec in place of the spec. */
  withSpec(evaluator: Evaluator): Investigation {
    const { capture, config, parameters, observations, precision, book } = this;
    return new Investigation(capture, config, parameters, { observations, precision, book, evaluator });
  }

  /** The same run as one of its ranks recorded it: by its own copies of what several ranks hold. */
  seenBy(rank: number): Investigation {
    const { capture, config, parameters, precision, book, observations } = this;
    if (observations.viewpoint.rank === rank) return this;
    let view = this.#views.get(rank);
    if (!view) {
      const viewpoint = { ...observations.viewpoint, rank };
      view = new Investigation(capture, config, parameters, { precision, book, viewpoint });
      this.#views.set(rank, view);
    }
    return view;
  }

  /** The same run where the first rank adds the bias of products of these roles to its term of their sum. */
  withBiasFirst(biasFirst: Viewpoint["biasFirst"]): Investigation {
    const { capture, config, parameters, precision, observations } = this;
    const viewpoint = { ...observations.viewpoint, biasFirst };
    return new Investigation(capture, config, parameters, { precision, viewpoint });
  }

  /** Checks a unit: by the bits of the run's recipe, of any other recipe, and where none is in reach by the noise model. */
  check(name: string): UnitCheck {
    const check = this.hasBits(name) ? this.#checkBits(name) : this.checkNoise(name);
    if (check.recipe) this.#recipes.set(name, check.recipe);
    return check;
  }

  /** The recipe of a unit's role, found on first use. */
  settle(name: string): SettledRecipe {
    const node = this.graph.node(name);
    return this.book.settle(node, () => recipeSearch(this, this.#probes(node), probeLimits));
  }

  #checkBits(name: string): UnitCheck {
    const node = this.graph.node(name);
    const settled = this.settle(name);
    const check = this.checkUnder(name, settled.recipe, this.evaluator);
    if (check.matched) return check;
    // A layer may depart from its siblings; where none of them was given back, neither is this one if it rounds as they may.
    const unlike = settled.probes.every((probe) => !roundsAlike(this.graph.node(probe), node));
    if (!settled.score.matched && !settled.probes.includes(name) && !unlike) return this.#within(check, name);
    const own = this.book.search(recipeSearch(this, [name], ownLimits, this.#rowsBeyond(name, check)));
    const departing = this.checkUnder(name, own.recipe, this.evaluator);
    if (departing.matched) {
      // Or the few elements of the probes could not tell two recipes apart.
      this.book.refine(node, own.recipe, () => recipeSearch(this, this.#probes(node), probeLimits));
      return departing;
    }
    return this.#within((departing.bits?.equal ?? 0) > (check.bits?.equal ?? 0) ? departing : check, name);
  }

  /** What the noise model says of a unit whose bits no recipe gives, with the nearest of them. */
  #within({ recipe, bits }: UnitCheck, name: string): UnitCheck {
    return this.checkNoise(name).with({ recipe, bits });
  }

  /** A unit checked once more under a rewrite: by the recipes that it and its role are known to have, then by the noise model. */
  checkRewritten(name: string, evaluator: Evaluator, more: readonly UnitRecipe[] = []): UnitCheck {
    const known = [...more, this.#recipes.get(name), this.book.settled.get(roleOf(this.graph.node(name)))?.recipe];
    for (const recipe of new Set(known)) {
      if (!recipe) continue;
      const check = this.checkUnder(name, recipe, evaluator, undefined, undefined, true);
      if (check.matched) return check;
    }
    return this.checkNoise(name, evaluator);
  }

  /** Recipes under which a rewrite of a unit is tried: what its role rounds like, or where no unit of it could tell, all there are. */
  recipesFor(name: string): UnitRecipe[] {
    const node = this.graph.node(name);
    const settled = this.book.settled.get(roleOf(node));
    const usual = this.book.start(this.interior(name));
    if (settled?.score.matched) return [settled.recipe];
    const found = this.#recipes.get(name) ?? settled?.recipe;
    const all = telling(node.op.recipes, this.precision.store)
      .filter(({ refines }) => refines === undefined)
      .map((recipe) => usual.with({ op: [roleOf(node), recipe] }));
    return [usual, ...(found ? [found] : []), ...all];
  }

  /** Takes note of a recipe that explained a unit together with a cause: its siblings are tried under it first. */
  remember(name: string, recipe: UnitRecipe): void {
    this.#recipes.set(name, recipe);
  }

  /**
   * Checks a unit against the bits of one recipe.
   * @param decide only whether they match is asked: stop at the first element that does not.
   */
  checkUnder(
    name: string,
    recipe: UnitRecipe,
    evaluator: Evaluator,
    sample: Sample = this.sample(name),
    include?: Included,
    decide = false,
  ): UnitCheck {
    const node = this.graph.node(name);
    const { rows, columns } = sample;
    const dtype = this.observations.dtype(name)!;
    const observed = this.observed(name, rows, columns);
    const quiet = evaluator.under(recipe, node, false);
    const independent = dtype === "float32" ? undefined : () => this.#independentRows(name, rows);
    const phaseOf = (row: number) => this.observations.rows.phaseOf(row);
    const options = { limit: this.limit, include, independent, decide, phaseOf: decide ? undefined : phaseOf };
    const bits = matchBits(quiet, name, sample, observed, dtype, options);
    // In float32 every element differs in its last places, and all of them together are held against the sum's own error.
    const emulated = dtype === "float32" ? quiet.withNoise() : quiet;
    const compare = lazily(() => {
      const whole = compareBlock(emulated.evaluate(name, rows, columns), observed, dtype, rows, columns);
      return include ? subset(whole, include) : whole;
    });
    const single = bits.surprise <= this.limit;
    const all = single && dtype === "float32";
    const statistics = all ? statisticsOf(compare()) : statisticsOfBits(bits, observed, rows.length, columns.length);
    const together = all ? excess(statistics, this.limit) : 0;
    const matched = single && together <= 1;
    const beyond = matched ? Math.max(together, bits.surprise / this.limit) : Infinity;
    return this.#unit({ recipe, bits, matched, statistics, excess: beyond }, name, observed, compare);
  }

  /** Checks a unit by the noise model under the spec, or under `evaluator`'s rewrite of it. */
  checkNoise(
    name: string,
    evaluator: Evaluator = this.evaluator,
    sample: Sample = this.sample(name),
    include?: Included,
  ): UnitCheck {
    const { rows, columns } = sample;
    const dtype = this.observations.dtype(name)!;
    const block = evaluator.evaluate(name, rows, columns);
    const observed = this.observed(name, rows, columns);
    const whole = compareBlock(block, observed, dtype, rows, columns);
    const comparison = include ? subset(whole, include) : whole;
    const statistics = statisticsOf(comparison);
    const beyond = this.excessOf(name, statistics);
    const judgement = { recipe: undefined, bits: undefined, matched: false, statistics, excess: beyond };
    return this.#unit(judgement, name, observed, () => comparison);
  }

  /** How far beyond rounding a unit with these statistics stands, by the noise model. */
  excessOf(name: string, statistics: Statistics): number {
    return excess(statistics, this.limit, this.#sharesKeys(name));
  }

  /** Whether a unit attends over keys or values that were not recorded: its rows err by the same ones. */
  #sharesKeys(name: string): boolean {
    return this.interior(name).some(
      ({ op, inputs }) => op.kind === "attention" && inputs.slice(1).some((input) => !this.observations.has(input)),
    );
  }

  /** Rows of a sample that err independently: unlike each other, and by no keys that they share. */
  #independentRows(name: string, rows: Int32Array): ReadonlySet<number> {
    return this.#sharesKeys(name) ? new Set() : this.observations.rows.unlike(rows);
  }

  #unit(
    judgement: Omit<UnitCheck["judgement"], "node" | "magnitude" | "coverage">,
    name: string,
    observed: Float64Array,
    compare: () => Comparison,
  ): UnitCheck {
    const of = this.elementsOf(name);
    const compared = Math.min(of, judgement.bits?.compared ?? judgement.statistics.checked);
    const node = this.graph.node(name);
    const coverage = { compared, summed: 0, of };
    return new UnitCheck({ ...judgement, node, magnitude: magnitudeOf(observed), coverage }, compare);
  }

  /** Units of the same role on which its recipe is settled: from the first, the middle and the last layers that hold numbers. */
  #probes(node: GraphNode): string[] {
    const siblings = this.units()
      .filter((other) => roleOf(other) === roleOf(node) && this.hasBits(other.name))
      .map(({ name }) => name);
    const alive = siblings.filter((name) => {
      const { rows, columns } = this.draw(name, { rows: 2, columns: 64 });
      return this.observed(name, rows, columns).some((x) => x !== 0 && Number.isFinite(x));
    });
    const from = alive.length > 0 ? alive : siblings;
    const places = [0, (from.length - 1) >> 1, from.length - 1].slice(0, probedUnits);
    return [...new Set(places.map((i) => from[i]!))];
  }

  /** A few rows in which a unit's bits are not its recipe's: only there another recipe can show. */
  #rowsBeyond(name: string, { bits }: UnitCheck): number[] {
    const { rows, columns } = this.sample(name);
    const beyond = bits?.worst.map((i) => rows[Math.floor(i / columns.length)]!) ?? [];
    return [...new Set(beyond)].slice(0, ownLimits.rows / 4);
  }
}

/** Whether two units of a role have the same recipes: the first rank's term has more of them where it adds the bias. */
function roundsAlike({ op: a }: GraphNode, { op: b }: GraphNode): boolean {
  if (a.recipes === b.recipes) return true;
  return a.recipes?.length === b.recipes?.length && !!a.recipes?.every(({ id }, i) => id === b.recipes![i]!.id);
}

/** A value computed when it is first asked for. */
function lazily<T>(compute: () => T): () => T {
  let value: T | undefined;
  return () => {
    value ??= compute();
    return value;
  };
}

/** The elements of a comparison that `include` keeps; the others count as unchecked. */
function subset(comparison: Comparison, include: Included): Comparison {
  const width = comparison.columns.length;
  const noise = comparison.noise.map((sigma, i) => (include(Math.floor(i / width), i % width) ? sigma : Infinity));
  return { ...comparison, noise, z: comparison.z.map((z, i) => (noise[i] === Infinity ? 0 : z)) };
}

/** Elements a recording holds: so many statements can be made about it. */
function recordedElements(capture: Capture): number {
  return capture.records.reduce((sum, record) => {
    if ("pages" in record) return sum + [...record.pages.values()].reduce((n, { entry }) => n + entry.byteLength, 0);
    return sum + record.view.shape.reduce((product, n) => product * n, 1);
  }, 0);
}
