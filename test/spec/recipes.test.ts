import { describe, expect, it } from "vitest";
import { matchBits } from "../../src/diagnose/bits/bits.js";
import { surpriseLimit } from "../../src/diagnose/bits/limits.js";
import { indices } from "../../src/spec/op.js";
import { type Recipe, UnitRecipe } from "../../src/spec/recipe.js";
import { implemented, orders, recipesOf, rowCount, singleOp, singleOps } from "./implementations.js";
import { evaluatorOf } from "./single-op.js";

const limit = surpriseLimit(1e8);

/** How the bits of an implementation under `own` agree with those that `assumed` predicts. */
function match(
  name: string,
  own: Recipe | undefined,
  assumed: Recipe | undefined,
  order: number,
  store: "bfloat16" | "float16",
) {
  const rows = indices(rowCount);
  const columns = indices(singleOps[name]!.columns);
  const observed = implemented(name, own, orders[order]!, store).read("out", rows, "").value;
  const recipe = new UnitRecipe(store, assumed ? new Map([["out", assumed]]) : new Map());
  const emulated = evaluatorOf({ ...singleOp(name, store), recipe });
  return matchBits(emulated, "out", { rows, columns }, observed, store, limit);
}

describe("under its own recipe", () => {
  for (const store of ["bfloat16", "float16"] as const) {
    it.each(Object.keys(singleOps))(`every implementation of %s gives the predicted ${store} bits`, (name) => {
      for (const recipe of recipesOf(name, store)) {
        for (const order of orders.keys()) {
          const bits = match(name, recipe, recipe, order, store);
          const what = `${name} ${recipe?.id ?? ""} ${store} order ${order}`;
          expect(bits.surprise, what).toBeLessThan(limit);
          expect(bits.equal / bits.compared, what).toBeGreaterThan(0.99);
        }
      }
    });
  }
});

describe("under another recipe", () => {
  it.each([
    ["rmsnorm", "rounded-before-weight", "one-rounding"],
    ["rmsnorm", "one-rounding", "rounded-before-weight"],
    ["rope", "rounded-table-and-products", "float32"],
    ["rope", "float32", "rounded-table"],
    ["linear", "split-2", "one-rounding"],
    ["linear", "one-rounding", "split-4"],
    ["linear with bias", "bias-after", "one-rounding"],
    ["attention", "eager", "exponentials-rounded"],
    ["attention", "exponentials-rounded", "float32"],
    ["attention", "exponentials-rounded-and-summed", "exponentials-rounded"],
    ["attention", "tiles-16", "exponentials-rounded"],
    ["attention", "tiles-16-descending", "tiles-16"],
    ["attention", "parts-2", "exponentials-rounded"],
  ])("the bits of %s rounded as %s are not those of %s", (name, own, assumed) => {
    const recipes = new Map(recipesOf(name, "bfloat16").map((recipe) => [recipe!.id, recipe]));
    expect([...recipes.keys()]).toContain(own);
    expect([...recipes.keys()]).toContain(assumed);
    expect(match(name, recipes.get(own), recipes.get(assumed), 0, "bfloat16").surprise).toBeGreaterThan(limit);
  });
});
