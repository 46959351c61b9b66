import type { Graph } from "../../spec/graph.js";
import type { Phase } from "../../spec/phase.js";
import { type Recipe, UnitRecipe } from "../../spec/recipe.js";
import { roleOf } from "../../spec/site.js";
import type { DType } from "../../tensor/dtype.js";
import { withScratch } from "../../tensor/scratch.js";
import type { BitMatch } from "../bits/bits.js";
import type { SettledRecipe } from "../bits/recipe-book.js";
import type { Sample } from "../bits/sample.js";
import type { Statistics } from "../bits/statistics.js";
import { checkUnit } from "../check/check-unit.js";
import type { Shares } from "../check/coverage.js";
import type { Investigation } from "../check/investigation.js";
import { type Coverage, type Magnitude, UnitCheck } from "../check/unit-check.js";

/** A unit's recipe as threads pass it on: recipes by their ids. */
interface RecipeOnWire {
  readonly store: DType;
  readonly ops: readonly (readonly [role: string, id: string])[];
  readonly kept: readonly string[];
  readonly recomputed: readonly string[];
  readonly phases: readonly (readonly [phase: Phase, recipe: RecipeOnWire])[];
}

/** What a role rounds like as threads pass it on. */
interface SettledOnWire {
  readonly recipe: RecipeOnWire;
  readonly score: SettledRecipe["score"];
  readonly probes: readonly string[];
}

/** A unit's check as threads pass it on: what was found, not the elements it was found on. */
export interface CheckOnWire {
  readonly name: string;
  readonly recipe: RecipeOnWire | undefined;
  readonly bits: BitMatch | undefined;
  readonly matched: boolean;
  readonly statistics: Statistics;
  readonly magnitude: Magnitude;
  readonly excess: number;
  readonly coverage: Coverage;
  /** Elements that something pointed at: they belong to the unit's sample. */
  readonly suspects: Sample | undefined;
  readonly settled: SettledOnWire | undefined;
}

/** Settles the roles of some units: [unit, what its role rounds like]. */
export function settleRoles(investigation: Investigation, names: readonly string[]): [string, SettledOnWire][] {
  return names.map((name) => {
    const settled = withScratch(() => investigation.settle(name));
    return [name, { ...settled, recipe: recipeToWire(settled.recipe) }];
  });
}

/** Takes over what other threads have settled. */
export function adoptRoles(investigation: Investigation, found: Iterable<readonly [string, SettledOnWire]>): void {
  const { graph, book } = investigation;
  for (const [name, settled] of found) {
    const interior = investigation.interior(settled.probes.at(-1)!);
    book.adopt(roleOf(graph.node(name)), { ...settled, recipe: recipeFromWire(graph, settled.recipe) }, interior);
  }
}

/** Checks units, and keeps of each what others need to know. */
export function checkBatch(investigation: Investigation, names: readonly string[], shares: Shares): CheckOnWire[] {
  return names.map((name) => withScratch(() => toWire(investigation, checkUnit(investigation, name, shares))));
}

export function toWire(investigation: Investigation, check: UnitCheck): CheckOnWire {
  const { node, recipe, ...judgement } = check.judgement;
  const settled = investigation.book.settled.get(roleOf(node));
  return {
    name: node.name,
    recipe: recipe && recipeToWire(recipe),
    ...judgement,
    suspects: investigation.suspects(node.name),
    settled: settled && { ...settled, recipe: recipeToWire(settled.recipe) },
  };
}

/** The check as `investigation` would have made it; its elements are evaluated when they are asked for. */
export function fromWire(investigation: Investigation, check: CheckOnWire): UnitCheck {
  const { name, suspects, settled, ...judgement } = check;
  const { graph, book, evaluator } = investigation;
  const node = graph.node(name);
  if (suspects) investigation.suspect(name, suspects.rows, suspects.columns);
  if (settled) book.adopt(roleOf(node), { ...settled, recipe: recipeFromWire(graph, settled.recipe) });
  const recipe = check.recipe && recipeFromWire(graph, check.recipe);
  if (recipe) investigation.remember(name, recipe);
  const compare = () =>
    judgement.matched && recipe
      ? investigation.checkUnder(name, recipe, evaluator).comparison
      : investigation.checkNoise(name).comparison;
  return new UnitCheck({ ...judgement, node, recipe }, compare);
}

function recipeToWire({ store, ops, kept, recomputed, phases }: UnitRecipe): RecipeOnWire {
  return {
    store,
    ops: [...ops].map(([role, { id }]) => [role, id]),
    kept: [...kept],
    recomputed: [...recomputed],
    phases: [...phases].map(([phase, recipe]) => [phase, recipeToWire(recipe)]),
  };
}

const recipesByRole = new WeakMap<Graph, Map<string, readonly Recipe[]>>();

/** Whether the spec has a recipe of this id for a role. */
export function hasRecipe(graph: Graph, role: string, id: string): boolean {
  return findRecipe(graph, role, id) !== undefined;
}

function findRecipe(graph: Graph, role: string, id: string): Recipe | undefined {
  let known = recipesByRole.get(graph);
  if (!known) {
    known = new Map([...graph.nodes.values()].map((node) => [roleOf(node), node.op.recipes ?? []]));
    recipesByRole.set(graph, known);
  }
  return known.get(role)?.find((candidate) => candidate.id === id);
}

function recipeFromWire(graph: Graph, { store, ops, kept, recomputed, phases }: RecipeOnWire): UnitRecipe {
  const found = ops.map(([role, id]): [string, Recipe] => {
    const recipe = findRecipe(graph, role, id);
    if (!recipe) throw new Error(`the spec has no recipe "${id}" for ${role}`);
    return [role, recipe];
  });
  const own = phases.map(([phase, recipe]) => [phase, recipeFromWire(graph, recipe)] as const);
  return new UnitRecipe(store, new Map(found), new Set(kept), new Set(recomputed), new Map(own));
}
