import { describe, expect, it } from "vitest";
import { byPhase } from "../../src/spec/by-phase.js";
import { emptyBlock } from "../../src/spec/op.js";
import { UnitRecipe } from "../../src/spec/recipe.js";
import { RowTable } from "../../src/spec/rows.js";

describe("byPhase", () => {
  it("gives no rows for no rows, whatever phases there are", () => {
    const own = new UnitRecipe("bfloat16");
    const recipe = new UnitRecipe("bfloat16", new Map(), new Set(), new Set(), new Map([["decode", own]]));
    const table = new RowTable();
    const block = byPhase(recipe, table, new Int32Array(0), 4, ({ length }) => emptyBlock(length * 4, false));
    expect(block.value).toHaveLength(0);
  });
});
