import { type DType, type FloatFormat, floatFormat, tf32Format } from "../tensor/dtype.js";
import type { Recipe, RecipeSettings } from "./recipe.js";

/** What matrix units round the operands of a product to before they multiply, in recipes of products. */
export type NarrowOperands = "none" | "tf32" | "bfloat16" | "float16";

/** The format in which operands are multiplied under a recipe; undefined where they are multiplied as they are. */
export function operandFormat(settings: RecipeSettings | undefined): FloatFormat | undefined {
  const { narrow } = (settings ?? {}) as { readonly narrow?: NarrowOperands };
  if (narrow === undefined || narrow === "none") return undefined;
  return narrow === "tf32" ? tf32Format : floatFormat(narrow);
}

/** Recipes that can tell themselves apart: what is stored in 16 bits is no longer rounded to 16 bits before it is multiplied. */
export function telling(recipes: readonly Recipe[] | undefined, store: DType): readonly Recipe[] {
  if (!recipes || store === "float32") return recipes ?? [];
  return recipes.filter(({ settings: { narrow } }) => narrow !== "bfloat16" && narrow !== "float16");
}
