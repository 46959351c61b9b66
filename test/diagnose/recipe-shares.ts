import { expect } from "vitest";
import type { Verdict } from "../../src/diagnose/tell/verdict.js";

/**
 * Every kind of unit has a recipe that gives all its units back.
 * @param share of the elements that must be equal bit for bit, more than that; undefined where float32 has few equal ones.
 */
export function expectRecipes({ recipes }: Verdict, share: (unit: string) => number | undefined): void {
  for (const { unit, recipe, equal, of, matched } of recipes) {
    expect(recipe, unit).not.toBeNull();
    expect(matched, unit).toBe(of);
    const least = share(unit);
    if (least !== undefined) expect(equal, unit).toBeGreaterThan(least);
  }
}

/** What real kernels reach: norms and rotations nearly all, products and attention a little less. */
export const ofKernels = (unit: string): number => (/norm|rope/.test(unit) ? 0.999 : 0.99);
