import { describe, expect, it } from "vitest";
import { searchPhases } from "../../src/diagnose/bits/phase-search.js";
import type { PhasedSearch, RecipeSearch } from "../../src/diagnose/bits/recipe-search.js";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { byPhase } from "../../src/spec/by-phase.js";
import { attentionRecipes } from "../../src/spec/ops/attention-recipes.js";
import { wholeVectors } from "../../src/spec/ops/attention-tiles.js";
import { fastExponential, fastExponentialVariance } from "../../src/spec/ops/exponential.js";
import { type Phase, phaseOf } from "../../src/spec/phase.js";
import { UnitRecipe } from "../../src/spec/recipe.js";
import { RowTable } from "../../src/spec/rows.js";

const model = "models/ishmael-7m";
const usual = new UnitRecipe("bfloat16");
const [flash, eager, summed, float32] = attentionRecipes.map((recipe) => usual.with({ op: ["out", recipe] }));

describe("the phase of a row", () => {
  it.each([
    ["prefill", { queries: 5, mostQueries: 5, keys: 5, masked: false }],
    ["extend", { queries: 5, mostQueries: 5, keys: 9, masked: false }],
    ["decode", { queries: 1, mostQueries: 1, keys: 9, masked: false }],
    ["mixed decode", { queries: 1, mostQueries: 5, keys: 9, masked: false }],
    ["masked decode", { queries: 1, mostQueries: 1, keys: 9, masked: true }],
  ] as const)("%s", (phase, step) => {
    expect(phaseOf(step)).toBe(phase);
  });

  it("is that of its own sequence in its step", () => {
    const table = new RowTable();
    table.append({ step: 0, seqIds: [7, 8], tokenIds: [1, 2, 3], qoIndptr: [0, 2, 3] });
    table.append({ step: 1, seqIds: [7, 8], tokenIds: [4, 5], qoIndptr: [0, 1, 2], keyColumns: 8 });
    const phases = Array.from({ length: table.count }, (_, row) => table.phaseOf(row));
    expect(phases).toEqual(["prefill", "prefill", "mixed decode", "masked decode", "masked decode"]);
  });
});

/** A search in which each phase has one recipe that gives its bits, of 100 elements; others give 40. */
function searchOf(right: Partial<Record<Phase, string>>): PhasedSearch {
  const phases = Object.keys(right) as Phase[];
  const node = {
    op: { kind: "attention", recipes: attentionRecipes },
    inputs: [],
    name: "out",
    site: { name: "out", role: "out" },
  };
  const over = (some: readonly Phase[]): RecipeSearch => ({
    names: ["out"],
    graph: undefined as never,
    interior: [node as never],
    isRecorded: () => false,
    longest: 8,
    cost: 1,
    glance: () => undefined,
    score: (recipe) => {
      const id = (phase: Phase) => recipe.at(phase).ops.get("out")?.id ?? attentionRecipes[0]!.id;
      const given = some.filter((phase) => id(phase) === right[phase]).length;
      return { equal: 40 * some.length + 60 * given, compared: 100 * some.length, matched: given === some.length };
    },
  });
  return { ...over(phases), phases, during: (phase) => over([phase]) };
}

describe("the search over phases", () => {
  const found = (right: Partial<Record<Phase, string>>) => {
    const { recipe, score } = searchPhases(searchOf(right), usual, false);
    const used = (Object.keys(right) as Phase[]).map((phase) => recipe.at(phase).ops.get("out")?.id);
    return { used, matched: score.matched, ways: recipe.ways.length };
  };

  it("settles one recipe where one gives the bits of all phases", () => {
    expect(found({ prefill: "eager", decode: "eager" })).toEqual({ used: ["eager", "eager"], matched: true, ways: 1 });
  });

  it("settles as few as there can be where phases differ", () => {
    const right = { prefill: "eager", extend: "eager", decode: "float32" };
    expect(found(right)).toEqual({ used: ["eager", "eager", "float32"], matched: true, ways: 2 });
  });

  it("leaves a phase that nothing gives back with the others' recipe", () => {
    const { matched, ways } = found({ prefill: "eager", decode: "nobody's" });
    expect({ matched, ways }).toEqual({ matched: false, ways: 1 });
  });
});

it("evaluates the rows of each phase under its own recipe, in the order that was asked for", () => {
  const table = new RowTable();
  table.append({ step: 0, seqIds: [0], tokenIds: [1, 2], qoIndptr: [0, 2] });
  table.append({ step: 1, seqIds: [0], tokenIds: [3], qoIndptr: [0, 1] });
  const recipe = summed!.withPhases(new Map([["decode", float32!]]));
  const block = byPhase(recipe, table, Int32Array.of(2, 0, 1), 2, (rows, own) => ({
    value: Float64Array.from([...rows].flatMap((row) => [row, own === float32 ? 1 : 0])),
    variance: new Float64Array(0),
  }));
  expect([...block.value]).toEqual([2, 1, 0, 0, 1, 0]);
  expect(recipe.with({ kept: ["x", true] }).at("decode").kept).toEqual(new Set(["x"]));
  expect(flash!.ways).toEqual([flash]);
  expect(recipe.at("extend").ops).toBe(recipe.ops);
  expect(eager!.at("decode")).toBe(eager);
});

describe("whole vectors of 16 keys", () => {
  const query = {
    index: 0,
    queries: 1,
    keyCount: 5,
    keyColumns: undefined,
    columns: [0, 1, 2, 3, 4],
  } as never as Parameters<typeof wholeVectors>[0];

  it("are counted over the keys there are without a mask", () => {
    expect(wholeVectors(query, 512)).toBe(0);
    const columns = Array.from({ length: 20 }, (_, i) => i);
    expect(wholeVectors({ ...query, keyCount: 20, columns }, 512)).toBe(16);
  });

  it("are counted over all columns under a mask, free slots and padding among them", () => {
    expect(wholeVectors({ ...query, keyColumns: 33 }, 512)).toBe(5);
    expect(wholeVectors({ ...query, keyColumns: 33, columns: [30, 31, 32] }, 512)).toBe(2);
  });
});

it("the fast exponential moves in steps of 2^-17 where its argument's last bits change", () => {
  const steps = Array.from({ length: 4000 }, (_, i) => {
    const x = -0.9 - i * 1e-4;
    return Math.abs(fastExponential(x * (1 + 2 ** -24)) / fastExponential(x) - 1);
  }).filter((step) => step > 0);
  expect(steps.length).toBeGreaterThan(0);
  expect(Math.min(...steps)).toBeGreaterThan(2 ** -19);
  expect(Math.max(...steps) ** 2).toBeLessThanOrEqual(fastExponentialVariance * 1.01);
});

describe("real runs", () => {
  it("a static cache and padding on the left: SDPA's masked kernel on the CPU gives all units' bits", async () => {
    const verdict = await diagnose({ target: "test/golden/masked", model, quick: true });
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [] });
    const attention = verdict.recipes.find(({ unit }) => unit.endsWith("o_proj.input"))!;
    expect(attention).toMatchObject({ recipe: "fast-exponentials-rounded", matched: 1, of: 1 });
    expect(attention.phases.map(({ phase }) => phase)).toEqual(["masked prefill", "masked decode"]);
    for (const { phase, equal, compared } of attention.phases) {
      expect(equal, phase).toBeGreaterThan(0.99);
      expect(compared, phase).toBeGreaterThan(1000);
    }
  });
});
