import type { GraphNode } from "../../spec/graph.js";
import { type Recipe, UnitRecipe } from "../../spec/recipe.js";
import { roleOf } from "../../spec/site.js";
import type { DType } from "../../tensor/dtype.js";
import { searchPhases } from "./phase-search.js";
import type { PhasedSearch, RecipeScore } from "./recipe-search.js";

/** What one role of units was found to round like. */
export interface SettledRecipe {
  readonly recipe: UnitRecipe;
  readonly score: RecipeScore;
  /** Units it was settled on. */
  readonly probes: readonly string[];
}

/**
 * The roundings of a run. A kernel is the same in every layer, so they are settled once per role, on a few of its units;
 * where the bits say so, once per phase.
 */
export class RecipeBook {
  readonly #settled = new Map<string, SettledRecipe>();
  /** Recipes that explained a kind of op elsewhere in the run: where a search starts. */
  readonly #byKind = new Map<string, Recipe>();

  constructor(readonly store: DType) {}

  get settled(): ReadonlyMap<string, SettledRecipe> {
    return this.#settled;
  }

  /** The recipe of every op that was settled, by the role of its value. */
  get ops(): ReadonlyMap<string, Recipe> {
    const out = new Map<string, Recipe>();
    for (const { recipe, score } of this.#settled.values())
      if (score.matched) for (const [role, op] of recipe.ops) out.set(role, op);
    return out;
  }

  /** The recipe of `unit`'s role, found on first use by `search` over some of its units. */
  settle(unit: GraphNode, search: () => PhasedSearch): SettledRecipe {
    const role = roleOf(unit);
    const known = this.#settled.get(role);
    if (known) return known;
    const found = this.search(search(), true);
    this.#settled.set(role, found);
    return found;
  }

  /**
   * Takes over what was settled elsewhere.
   * @param interior the ops it was settled on: searches start from their recipes as from those settled here.
   */
  adopt(role: string, settled: SettledRecipe, interior: readonly GraphNode[] = []): void {
    if (this.#settled.has(role)) return;
    this.#settled.set(role, settled);
    this.#learn(interior, settled);
  }

  /** Replaces the recipe of `unit`'s role by a better one, if the units it was settled on agree. */
  refine(unit: GraphNode, recipe: UnitRecipe, search: () => PhasedSearch): void {
    const role = roleOf(unit);
    const known = this.#settled.get(role);
    if (!known) return;
    const score = search().score(recipe);
    if (score.matched && score.equal >= known.score.equal) this.#settled.set(role, { ...known, recipe, score });
  }

  /** The best recipe of one unit or a few, from what is known of the run so far. */
  search(search: PhasedSearch, again = false): SettledRecipe {
    const found = searchPhases(search, this.start(search.interior), again);
    this.#learn(search.interior, found);
    return { ...found, probes: search.names };
  }

  #learn(interior: readonly GraphNode[], { recipe, score }: Pick<SettledRecipe, "recipe" | "score">): void {
    if (!score.matched) return;
    for (const node of interior) {
      const own = recipe.ops.get(roleOf(node)) ?? node.op.recipes?.[0];
      if (own && own.refines === undefined && !this.#byKind.has(node.op.kind)) this.#byKind.set(node.op.kind, own);
    }
  }

  /** The roundings seen elsewhere in the run, for the ops of a unit. */
  start(interior: readonly GraphNode[]): UnitRecipe {
    const ops = new Map<string, Recipe>();
    for (const node of interior) {
      const usual = this.#byKind.get(node.op.kind);
      if (usual && node.op.recipes?.includes(usual)) ops.set(roleOf(node), usual);
    }
    return new UnitRecipe(this.store, ops);
  }
}
