import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { expectRecipes, ofKernels } from "./recipe-shares.js";
import { writeWideModel } from "./wide-model.js";

let model: string;

beforeAll(() => {
  model = mkdtempSync(join(tmpdir(), "wide-"));
  writeWideModel(model);
});

afterAll(() => rmSync(model, { recursive: true, force: true }));

describe("correct runs of Qwen3-0.6B's width on an NVIDIA H100", () => {
  test.each([
    ["h100_bfloat16_sdpa", "exponentials-rounded"],
    ["h100_float16_eager", "eager"],
  ])("%s is clean, and rounds as its recipes do", async (file, attention) => {
    const verdict = await diagnose({ target: `test/golden/wide/${file}.safetensors`, model });
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [] });
    expectRecipes(verdict, ofKernels);
    const recipe = verdict.recipes.find(({ unit }) => unit.endsWith("o_proj.input"))?.recipe;
    expect(recipe).toBe(attention);
  });
});
