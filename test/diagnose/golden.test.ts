import { describe, expect, test } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { expectPublished } from "../published.js";
import { expectRecipes, ofKernels } from "./recipe-shares.js";

const model = "models/ishmael-7m";

describe("recordings with nothing wrong in them", () => {
  test.each([
    "hf_prefill_bf16_cpu.safetensors",
    "hf_prefill_fp32_cpu.safetensors",
    "hf_h200_bf16_sdpa.safetensors",
    "hf_h200_fp16_eager.safetensors",
    "hf_h200_fp32_sdpa_tf32.safetensors",
    "hf_h200_bf16_sdpa_batch_3.safetensors",
    "hf_h200_bf16_sdpa_5_tokens.safetensors",
  ])("%s is clean", async (file) => {
    const isWhole = file === "hf_prefill_bf16_cpu.safetensors";
    const verdict = await diagnose({ target: `test/golden/${file}`, model, quick: !isWhole });
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [] });
    expectPublished("diagnose", verdict);
    for (const { unit, rmsZ, worstRmsZ } of verdict.units) {
      // A lookup and a name for the same value round nothing; everything else shows rounding, and no more than rounding.
      const exact = ["model.embed_tokens", "model.layers.*.self_attn", "model.layers.*.mlp", "model"].includes(unit);
      expect(rmsZ, unit).toBeLessThan(exact ? 1e-9 : 1.5);
      if (!exact) expect(rmsZ, unit).toBeGreaterThan(0.05);
      expect(worstRmsZ, unit).toBeLessThan(2);
    }
    const isFloat32 = verdict.recording.dtype === "float32";
    expectRecipes(verdict, (unit) => (isFloat32 ? undefined : ofKernels(unit)));
    if (isWhole) expect(verdict.proof.repair!.tokenId).toBe(3072);
    expect(verdict.recording.compute).toBe(file.includes("tf32") ? "tf32" : "float32");
    expect(Object.values(verdict.audits).every(({ pass }) => pass)).toBe(true);
  });

  test("the paged one: chunks, decodes, KV pages as read, 24 unrecorded layers in the middle", async () => {
    const verdict = await diagnose({ target: "test/golden/paged_bf16", model, quick: true });
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [] });
    expect(verdict.recording).toMatchObject({ steps: 5, sequences: 5, rows: 138 });
    expect(verdict.audits.cache.evidence).toContain("bit for bit");
    expect(verdict.audits.batch.evidence).toContain("slots");
    expect(verdict.unchecked.some(({ value }) => value.includes("layer outputs"))).toBe(true);
  });
});
