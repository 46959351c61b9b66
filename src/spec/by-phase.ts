import { assemble, type Row, rowOf } from "./evaluated-row.js";
import { type Block, indices } from "./op.js";
import type { UnitRecipe } from "./recipe.js";
import type { RowTable } from "./rows.js";

/**
 * Evaluates rows, those of each phase under its own recipe.
 * @param size columns of the block that `evaluate` gives.
 */
export function byPhase(
  recipe: UnitRecipe | undefined,
  table: RowTable,
  rows: Int32Array,
  size: number,
  evaluate: (rows: Int32Array, recipe: UnitRecipe | undefined) => Block,
): Block {
  if (!recipe || recipe.phases.size === 0) return evaluate(rows, recipe);
  const groups = rowsByRecipe(recipe, table, rows);
  // No rows at all have no phase either.
  if (groups.size <= 1) return evaluate(rows, [...groups.keys()][0] ?? recipe);
  const out: Row[] = new Array(rows.length);
  for (const [own, places] of groups) {
    const block = evaluate(
      Int32Array.from(places, (i) => rows[i]!),
      own,
    );
    places.forEach((at, i) => {
      out[at] = rowOf(block, i, size);
    });
  }
  return assemble(out, indices(size), size, out[0]!.variance !== undefined);
}

/** Indices into `rows` by the recipe that their phase has. */
export function rowsByRecipe(recipe: UnitRecipe, table: RowTable, rows: Int32Array): Map<UnitRecipe, number[]> {
  const groups = new Map<UnitRecipe, number[]>();
  rows.forEach((row, i) => {
    const own = recipe.at(table.phaseOf(row));
    const places = groups.get(own);
    if (places) places.push(i);
    else groups.set(own, [i]);
  });
  return groups;
}
