import Table from "cli-table3";
import { ranges } from "../diagnose/check/extent.js";
import type { RecipeSummary, Verdict } from "../diagnose/tell/verdict.js";
import { coverageWords, recipeWords } from "./recording-words.js";
import { bareChars, type Colors, percent, section } from "./text.js";

/** How closely every kind of unit agreed, how it rounds, and what share of the recording that says something about. */
export function agreement({ units, recipes, coverage }: Verdict, c: Colors): string {
  const table = new Table({
    head: ["unit", "count", "bit for bit", "rms z", "max |z|", "failed", "rounds as"],
    style: { head: [], border: [], compact: true },
    chars: { ...bareChars, left: " " },
    colAligns: ["left", "right", "right", "right", "right", "right", "left"],
  });
  const byUnit = new Map(recipes.map((recipe) => [recipe.unit, recipe]));
  for (const { unit, count, rmsZ, maxZ, failed, equal } of units) {
    const recipe = byUnit.get(unit);
    table.push([
      unit,
      count,
      equal === null ? "" : percent(equal),
      number(rmsZ),
      number(maxZ),
      failed > 0 ? c.red(String(failed)) : "0",
      recipe ? recipeWords(recipe) : "",
    ]);
  }
  const departing = recipes.flatMap(({ unit, departing: layers }) =>
    layers.length > 0
      ? [`  ${unit}: layer${layers.length > 1 ? "s" : ""} ${ranges(layers)} round otherwise than the others`]
      : [],
  );
  return section(c, "Agreement by kind of unit (z: error in units of its rounding; about 1 or less is right)", [
    table.toString().replace(/ +$/gm, ""),
    ...departing,
    ...roundings(recipes, c),
    `  covered: ${coverageWords(coverage)}`,
  ]);
}

/** What each recipe means, and who is known to round so. */
function roundings(recipes: readonly RecipeSummary[], c: Colors): string[] {
  const ways = recipes.flatMap((recipe) => [recipe, ...recipe.phases]);
  const seen = new Map(ways.filter(({ recipe }) => recipe !== null).map((way) => [way.recipe!, way]));
  return [...seen.values()].map(({ recipe, title, known }) =>
    c.dim(`  ${recipe}: ${title}${known.length > 0 ? ` (${known.join(", ")})` : ""}`),
  );
}

function number(x: number): string {
  return x < 1000 ? x.toFixed(2) : x.toExponential(1);
}
