import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { families } from "../../src/spec/families/registry.js";
import { expectRecipes } from "./recipe-shares.js";

const folder = "test/golden/families";
const recordings = readdirSync(folder).flatMap((family) =>
  readdirSync(join(folder, family))
    .filter((file) => /^(bf16|fp32)_/.test(file))
    .map((file) => [family, file] as const),
);

describe("runs of transformers with nothing wrong in them", () => {
  test("are of families that the spec knows, a bf16 and an fp32 one of each", () => {
    const known = families.flatMap(({ modelTypes }) => modelTypes);
    for (const family of new Set(recordings.map(([name]) => name))) {
      expect(known).toContain(family);
      const types = recordings.filter(([name]) => name === family).map(([, file]) => file.slice(0, 4));
      expect(types.sort()).toEqual(["bf16", "fp32"]);
    }
  });

  test.each(recordings)("%s: %s is clean, every recipe named", async (family, file) => {
    const verdict = await diagnose({ target: join(folder, family, file), model: join(folder, family) });
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [] });
    expect(verdict.unchecked).toEqual([]);
    expect(verdict.recipes.length).toBeGreaterThan(10);
    expectRecipes(verdict, () => (file.startsWith("bf16") ? 0.98 : undefined));
  });
});
