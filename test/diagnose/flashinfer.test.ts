import pc from "picocolors";
import { describe, expect, test } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { agreement } from "../../src/report/agreement.js";
import { expectRecipes, ofKernels } from "./recipe-shares.js";

const model = "models/ishmael-7m";
const golden = "test/golden/flashinfer";

describe("FlashInfer 0.6.18 on an NVIDIA H100 and H200, recorded by python/faultline", () => {
  test.each([
    ["fused-decode", "float32"],
    ["fused-tensor-cores", "exponentials-rounded-and-summed"],
  ])("%s is clean, and every unit rounds by a recipe", async (run, attention) => {
    const verdict = await diagnose({ target: `${golden}/${run}`, model, quick: true });
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [] });
    expectRecipes(verdict, ofKernels);
    const recipe = verdict.recipes.find(({ unit }) => unit.endsWith("o_proj.input"))?.recipe;
    expect(recipe).toBe(attention);
    expect(Object.values(verdict.audits).every(({ pass }) => pass)).toBe(true);
  });

  test("a prompt by the ragged kernel, then decode steps: clean, each kernel by its own recipe", async () => {
    const verdict = await diagnose({ target: `${golden}/fused-ragged`, model, quick: true });
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [] });
    expectRecipes(verdict, ofKernels);
    const attention = verdict.recipes.find(({ unit }) => unit.endsWith("o_proj.input"));
    expect(attention?.phases).toMatchObject([
      { phase: "prefill", recipe: "exponentials-rounded-and-summed" },
      { phase: "decode", recipe: "float32" },
    ]);
    for (const { equal } of attention?.phases ?? []) expect(equal).toBeGreaterThan(0.999);
    expect(agreement(verdict, pc.createColors(false))).toContain(
      "prefill: exponentials-rounded-and-summed; decode: float32",
    );
    expect(verdict.audits.cache.evidence).toContain("bit for bit");
  });

  test("the standard path with FlashInfer's own rotation, whose fast angles differ in a few bits: clean", async () => {
    const verdict = await diagnose({ target: `${golden}/standard-rope-kernel`, model, quick: true });
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [] });
    for (const { unit, recipe, equal } of verdict.recipes) {
      expect(recipe, unit).not.toBeNull();
      expect(equal, unit).toBeGreaterThan(ofKernels(unit));
    }
  });

  test.each([
    ["layout-mixed", "layout-mismatch"],
    ["strides-forgotten", "stride-mismatch"],
    ["combined-split", "stride-mismatch"],
    ["indices-long", "dtype-bits"],
    ["last-page-short", "last-page-length"],
    ["scale-wrong", "softmax-scale"],
    ["causal-forgotten", "causal-missing"],
    ["plan-stale", "page-table-stale"],
    ["key-unrotated", "key-unrotated"],
    ["cached-unrotated", "cached-before-rope"],
  ])("a seam between right kernels, %s: %s alone, and nothing unexplained", async (run, cause) => {
    const verdict = await diagnose({ target: `${golden}/${run}`, model, quick: true });
    expect(verdict.verdict).toBe("fault");
    expect([...new Set(verdict.causes.map(({ cause }) => cause))]).toEqual([cause]);
    expect(verdict.findings.filter(({ cause }) => cause === null)).toEqual([]);
  });

  test("the exclamation mark: its three faults, each in its place", async () => {
    const verdict = await diagnose({ target: `${golden}/exclamation-mark`, model });
    expect(verdict.causes.map(({ cause }) => cause).sort()).toEqual([
      "additive-constant",
      "embedding-scaled",
      "residual-dropped",
    ]);
    expect(verdict.findings.filter(({ cause }) => cause === null)).toEqual([]);
  });
});
