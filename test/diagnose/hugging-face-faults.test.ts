import { describe, expect, test } from "vitest";
import { briefVerdict } from "./brief-verdict.js";

/** Hugging Face's own code with faults somebody else put in: the checker's catalogue was not consulted. */
const expected: [file: string, causes: { cause: string; layers?: number[]; unit: string }[]][] = [
  [
    "two_gqa_and_gate_up",
    [
      { cause: "gqa-tiled", layers: [13], unit: "model.layers.13.self_attn.o_proj.input" },
      { cause: "gate-up-swapped", layers: [13], unit: "model.layers.13.mlp.down_proj" },
    ],
  ],
  ["head_norm_after_rope", [{ cause: "norm-after-rope", layers: [2], unit: "model.layers.2.self_attn.q_rope" }]],
  ["value_strides_ignored", [{ cause: "strides-ignored", layers: [1], unit: "model.layers.1.self_attn.o_proj.input" }]],
  ["norm_half_sum_fp16", [{ cause: "norm-sum-overflow", unit: "model.norm" }]],
  [
    "rope_position_k",
    [
      {
        cause: "position-offset",
        layers: Array.from({ length: 28 }, (_, i) => i),
        unit: "model.layers.0.self_attn.k_rope",
      },
    ],
  ],
];

const model = "models/ishmael-7m";
const run = (file: string) => briefVerdict(`test/golden/faults/${file}.safetensors`, model);

describe("faults in Hugging Face's code", () => {
  test.each(expected)("%s", async (file, causes) => {
    const verdict = await run(file);
    expect(verdict.verdict).toBe("fault");
    expect(verdict.causes.map(({ cause }) => cause)).toEqual(causes.map(({ cause }) => cause));
    causes.forEach(({ layers, unit }, i) => {
      if (layers) expect(verdict.causes[i]!.layers).toEqual(layers);
      expect(verdict.causes[i]!.units).toContain(unit);
    });
    expect(verdict.findings.every(({ cause }) => cause !== null)).toBe(true);
    const { reproduced, necessity } = verdict.proof;
    expect(reproduced.matched).toBe(reproduced.of);
    for (const { matched } of necessity) expect(matched).toBeLessThan(reproduced.of);
  });

  test("a right run with an overwritten record: the observer is wrong, no kernel is", async () => {
    const verdict = await run("observer_overwritten");
    expect(verdict.verdict).toBe("clean");
    expect(verdict.causes).toMatchObject([{ cause: "record-overwritten", kind: "observer", layers: [5] }]);
    expect(verdict.findings.every(({ cause }) => cause === 0)).toBe(true);
  });

  test("all positions shifted alike: named as latent, no alarm", async () => {
    const verdict = await run("legal_position_shift");
    expect(verdict.verdict).toBe("clean");
    expect(verdict.causes).toMatchObject([{ cause: "position-offset", latent: true, parameters: { offset: 7 } }]);
  });
});
