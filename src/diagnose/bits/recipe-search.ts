import { placedRole } from "../../spec/evaluator.js";
import type { Graph, GraphNode } from "../../spec/graph.js";
import { telling } from "../../spec/narrow-operands.js";
import type { Phase } from "../../spec/phase.js";
import type { Recipe, UnitRecipe } from "../../spec/recipe.js";
import { roleOf } from "../../spec/site.js";
import type { DType } from "../../tensor/dtype.js";
import { farApart, type Nearness, nearer } from "./nearness.js";

/** Ops that a kernel fuses with its neighbours: a consumer may have had their result in float32. */
const pointwise = new Set(["add", "rmsnorm", "rope", "activation", "multiply"]);

/** What a unit under one recipe scores: elements equal bit for bit, and whether nothing is beyond the order of summation. */
export interface RecipeScore {
  readonly equal: number;
  readonly compared: number;
  readonly matched: boolean;
}

export interface RecipeSearch {
  /** Units of one role that are searched together. */
  readonly names: readonly string[];
  readonly graph: Graph;
  /** The unit's own node and the unrecorded nodes it rests on, nearest first. */
  readonly interior: readonly GraphNode[];
  isRecorded(name: string): boolean;
  /** Keys of the longest row: larger tiles than that make no difference. */
  readonly longest: number;
  /** What values between ops are stored in. */
  readonly store: DType;
  /** Multiply-adds of unrecorded products in one try. */
  readonly cost: number;
  /** Tries a recipe on the probes. */
  score(recipe: UnitRecipe): RecipeScore;
  /** How near a recipe comes to a few elements of each probe; undefined where that says little, or costs much. */
  glance(recipe: UnitRecipe): Nearness | undefined;
}

/** A search over rows of several phases, and over those of one. */
export interface PhasedSearch extends RecipeSearch {
  readonly phases: readonly Phase[];
  during(phase: Phase): RecipeSearch;
}

/** Gains below this share of the elements are chance. */
const gain = 0.01;
const sweeps = 3;
/** Recipes tried in one search: what none of so many gives back is left to the noise model. Fewer where a try costs much. */
const mostTries = 120;
const fewestTries = 4;
/** Multiply-adds of unrecorded products in one search. */
const searchCost = 1.5e8;

/** A recipe and what it scores. */
export interface Found {
  readonly recipe: UnitRecipe;
  readonly score: RecipeScore;
}

/**
 * The recipe that gives most bits back, from `start` by changing one rounding at a time: an op's own, whether an
 * unrecorded value was stored, whether a recorded one was read back. Stops at the first that leaves nothing unexplained.
 * @param again where that leads nowhere, try once more from each choice between ops: two roundings may have to change at once.
 */
export function searchRecipe(search: RecipeSearch, start: UnitRecipe, again: boolean): Found {
  const { ops, between } = coordinates(search);
  const tries = new Tries(search);
  const all = [...ops, ...between];
  let best = climb(tries, { recipe: start, score: tries.score(start) }, all);
  for (const choice of again ? between : []) {
    if (best.score.matched || tries.over) break;
    for (const recipe of choice(start)) {
      const found = climb(tries, { recipe, score: tries.score(recipe) }, all);
      if (found.score.matched || found.score.equal > best.score.equal) best = found;
      if (best.score.matched) break;
    }
  }
  return best;
}

/** Counts what a search tries. */
class Tries {
  #count = 0;
  readonly #most: number;
  readonly #glances = new Map<UnitRecipe, Nearness | undefined>();

  constructor(readonly search: RecipeSearch) {
    this.#most = Math.max(fewestTries, Math.min(mostTries, searchCost / Math.max(1, search.cost)));
  }

  get over(): boolean {
    return this.#count >= this.#most;
  }

  score(recipe: UnitRecipe): RecipeScore {
    this.#count++;
    return this.search.score(recipe);
  }

  /**
   * A try of a recipe beside another that it may replace: undefined where that is far astray, and this one at a glance is
   * as far.
   */
  beside(recipe: UnitRecipe, other: UnitRecipe): RecipeScore | undefined {
    this.#count++;
    return this.#isPromising(recipe, other) ? this.search.score(recipe) : undefined;
  }

  #isPromising(recipe: UnitRecipe, other: UnitRecipe): boolean {
    const before = this.#glance(other);
    return !before || before.ulps <= farApart || nearer(this.#glance(recipe)!, before);
  }

  #glance(recipe: UnitRecipe): Nearness | undefined {
    if (!this.#glances.has(recipe)) this.#glances.set(recipe, this.search.glance(recipe));
    return this.#glances.get(recipe);
  }
}

/** Changes one rounding at a time as long as that gives more bits back. */
function climb(tries: Tries, { recipe, score }: Found, choices: readonly Coordinate[]): Found {
  for (let sweep = 0; sweep < sweeps && !score.matched; sweep++) {
    const before = recipe;
    for (const coordinate of choices) {
      let best = recipe;
      for (const candidate of coordinate(recipe)) {
        if (tries.over) return { recipe: best, score };
        const found = tries.beside(candidate, best);
        if (!found || (!found.matched && found.equal < score.equal + gain * found.compared)) continue;
        best = candidate;
        score = found;
        if (found.matched) return { recipe: candidate, score: found };
      }
      recipe = best;
    }
    if (recipe === before) break;
  }
  return { recipe, score };
}

/** A choice that can be made on its own: its alternatives to what a recipe says. */
type Coordinate = (recipe: UnitRecipe) => UnitRecipe[];

/** The choices of a unit: within its ops, and between them. */
function coordinates(search: RecipeSearch): { ops: Coordinate[]; between: Coordinate[] } {
  const { graph, interior, isRecorded, longest, store } = search;
  const ops: Coordinate[] = [];
  const between: Coordinate[] = [];
  const unit = interior[0]!;
  for (const node of interior) {
    const role = roleOf(node);
    if (node.op.recipes) {
      const recipes = telling(node.op.recipes, store);
      ops.push((from) =>
        others(recipes, from.ops.get(role), longest).map((recipe) => from.with({ op: [role, recipe] })),
      );
    }
    if (node !== unit && node.op.kind !== "identity") {
      between.push((from) => [from.with({ kept: [role, !from.kept.has(role)] })]);
    }
  }
  for (const node of interior) {
    for (const name of node.inputs) {
      const input = graph.node(name);
      if (!isRecorded(name) || !pointwise.has(input.op.kind)) continue;
      const placed = placedRole(input, unit.layer);
      const inside = unrecordedBelow(search, input);
      between.push((from) => {
        const changed = from.with({ recomputed: [placed, !from.recomputed.has(placed)] });
        if (from.recomputed.has(placed)) return [changed];
        // What was computed once more was computed in its own way.
        const ways = [
          changed,
          ...others(telling(input.op.recipes, store), from.ops.get(roleOf(input)), longest).map((recipe) =>
            changed.with({ op: [roleOf(input), recipe] }),
          ),
        ];
        if (inside.length === 0) return ways;
        return ways.flatMap((way) => [way, inside.reduce((so, role) => so.with({ kept: [role, true] }), way)]);
      });
    }
  }
  return { ops, between };
}

/** Roles of the unrecorded values that `node` rests on. */
function unrecordedBelow({ graph, isRecorded }: RecipeSearch, node: GraphNode): string[] {
  const found = new Set<string>();
  const visit = (name: string) => {
    const value = graph.node(name);
    if (isRecorded(name) || found.has(roleOf(value))) return;
    found.add(roleOf(value));
    value.inputs.forEach(visit);
  };
  node.inputs.forEach(visit);
  return [...found];
}

/** Recipes other than the current one; finer forms last, and only those that can make a difference here. */
function others(recipes: readonly Recipe[], chosen: Recipe | undefined, longest: number): Recipe[] {
  const current = chosen ?? recipes[0];
  const possible = recipes.filter(
    ({ id, refines, settings }) => id !== current?.id && (!refines || Number(settings.tile ?? 0) < longest),
  );
  return [...possible.filter(({ refines }) => !refines), ...possible.filter(({ refines }) => refines)];
}
