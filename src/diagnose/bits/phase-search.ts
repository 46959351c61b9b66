import type { Phase } from "../../spec/phase.js";
import type { UnitRecipe } from "../../spec/recipe.js";
import { type Found, type PhasedSearch, searchRecipe } from "./recipe-search.js";

/**
 * The recipe that gives most bits back. Phases have one in common, unless the bits of some refute whatever the others
 * have: then each has its own, and as few of them as there can be.
 * @param again see `searchRecipe`.
 */
export function searchPhases(search: PhasedSearch, start: UnitRecipe, again: boolean): Found {
  const common = searchRecipe(search, start, again);
  if (common.score.matched || search.phases.length < 2) return common;
  const own = new Map(search.phases.map((phase) => [phase, ownRecipe(search, phase, common.recipe, again)]));
  const recipe = fewest(search, own, common.recipe);
  const score = search.score(recipe);
  return score.matched || score.equal > common.score.equal ? { recipe, score } : common;
}

/** What rows of one phase round like; what the others have where nothing gives their bits. */
function ownRecipe(search: PhasedSearch, phase: Phase, common: UnitRecipe, again: boolean): Found {
  const during = search.during(phase);
  const score = during.score(common);
  if (score.matched) return { recipe: common, score };
  const found = searchRecipe(during, common, again);
  return found.score.matched ? found : { recipe: common, score };
}

/** Each phase under a recipe that gives its bits, as few different ones as there can be: those first that suit most. */
function fewest(search: PhasedSearch, own: ReadonlyMap<Phase, Found>, common: UnitRecipe): UnitRecipe {
  const recipes = [...new Set([...own.values()].map(({ recipe }) => recipe))];
  const suits = new Map(
    recipes.map((recipe) => [recipe, search.phases.filter((phase) => fits(search, phase, recipe, own.get(phase)!))]),
  );
  const chosen = new Map<Phase, UnitRecipe>();
  for (const recipe of [...recipes].sort((a, b) => suits.get(b)!.length - suits.get(a)!.length))
    for (const phase of suits.get(recipe)!) if (!chosen.has(phase)) chosen.set(phase, recipe);
  const [first = common] = chosen.values();
  return first.withPhases(new Map([...chosen].filter(([, recipe]) => recipe !== first)));
}

function fits(search: PhasedSearch, phase: Phase, recipe: UnitRecipe, own: Found): boolean {
  return recipe === own.recipe || (own.score.matched && search.during(phase).score(recipe).matched);
}
