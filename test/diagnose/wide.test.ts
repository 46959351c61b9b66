import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
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
    for (const { unit, recipe, equal, of, matched } of verdict.recipes) {
      expect(matched, unit).toBe(of);
      expect(equal, unit).toBeGreaterThan(/norm|rope/.test(unit) ? 0.999 : 0.99);
      if (unit.endsWith("o_proj.input")) expect(recipe).toBe(attention);
    }
  });
});
