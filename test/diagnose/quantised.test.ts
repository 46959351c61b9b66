import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openInvestigation } from "../../src/diagnose/check/open-investigation.js";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { roleOf } from "../../src/spec/site.js";

/** Recordings of Hugging Face's code on a CPU: scripts/record-quantised.py. */
const goldens = "test/golden/quantised";

/** The way of rounding that Hugging Face has with each checkpoint. */
const recipes: Record<string, string> = {
  "fp8-blocks": "one-rounding",
  "packed-int4": "one-rounding",
  nvfp4: "one-rounding",
  mxfp4: "one-rounding",
  "fp8-rows": "operands-e4m3-scale-per-token-fake",
  int8: "operands-int8-of-255-steps-scale-per-token-fake",
};

describe("a run of a quantised checkpoint", () => {
  it.each(Object.entries(recipes))(
    "is clean, and its roundings are told: %s",
    { timeout: 30_000 },
    async (name, recipe) => {
      const model = join(goldens, name);
      const target = join(model, "run.safetensors");
      const verdict = await diagnose({ target, model, quick: true });
      expect(verdict.causes).toEqual([]);
      expect(verdict.verdict).toBe("clean");
      const { investigation, close } = openInvestigation({ target, model });
      const products = investigation.units().filter(({ op, site }) => op.kind === "linear" && site.layer !== undefined);
      expect(products.length).toBe(7);
      for (const node of products) {
        const { name: unit, op } = node;
        const { matched, recipe: found } = investigation.check(unit);
        expect(matched, unit).toBe(true);
        expect((found?.ops.get(roleOf(node)) ?? op.recipes![0])!.id, unit).toBe(recipe);
      }
      close();
    },
  );

  it.each([
    ["fp8-blocks/scale_inverted", "weight-scale-inverted", "mlp.up_proj"],
    ["packed-int4/halves_exchanged", "weight-halves-exchanged", "mlp.down_proj"],
    ["packed-int4/scales_shifted", "weight-scale-shifted", "self_attn.o_proj"],
    ["nvfp4/global_scale_missed", "weight-scale-missed", "self_attn.v_proj"],
  ])(
    "whose bytes were taken for something else is named: %s",
    { timeout: 30_000 },
    async (recording, cause, projection) => {
      const model = join(goldens, recording.split("/")[0]!);
      const verdict = await diagnose({ target: join(goldens, `${recording}.safetensors`), model, quick: true });
      expect(verdict.causes.map((found) => [found.cause, found.units])).toEqual([
        [cause, [`model.layers.0.${projection}`]],
      ]);
    },
  );
});
