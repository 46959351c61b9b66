import { describe, expect, it } from "vitest";
import { generate } from "../../src/engine/generate.js";
import { ReferencePath } from "../../src/engine/paths/reference.js";
import { certainSteps, goldenGenerations, openIshmael } from "./ishmael.js";

const { config, parameters } = openIshmael();

describe("the reference path", () => {
  it("continues five prompts as Hugging Face does in float32", async () => {
    const golden = goldenGenerations();
    const path = new ReferencePath({ config, parameters, pageCount: 48, pageSize: 16 });
    const results = await generate(
      path,
      golden.map(({ prompt_ids }) => ({ tokenIds: prompt_ids, maxTokens: 48 })),
    );
    golden.forEach((generation, i) => {
      const certain = certainSteps(generation);
      expect(certain).toBeGreaterThan(0);
      expect(results[i]!.tokenIds.slice(0, certain)).toEqual(generation.greedy_ids.slice(0, certain));
      expect(results[i]!.tokenIds).toHaveLength(48);
    });
  });
});
