import { describe, expect, test } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { briefVerdict } from "./brief-verdict.js";
import { expectRecipes } from "./recipe-shares.js";

const golden = "test/golden/moe";
const families = ["qwen3_moe", "qwen2_moe", "mixtral", "gpt_oss", "glm4_moe"];
/** Attention and experts as transformers computes them; gpt-oss has no SDPA. */
const runs = (family: string) => {
  const attention = family === "gpt_oss" ? "eager" : "sdpa";
  return [
    `bf16-${attention}-grouped_mm`,
    ...(["qwen3_moe", "gpt_oss"].includes(family) ? ["bf16-eager-batched_mm"] : []),
    "bf16-eager-eager",
    `fp32-${attention}-grouped_mm`,
    "fp32-eager-eager",
  ];
};

describe.each(families)("%s in Hugging Face's code", (family) => {
  test.each(runs(family))("is clean as %s", async (run) => {
    const verdict = await diagnose({
      target: `${golden}/${family}/${run}.safetensors`,
      model: `${golden}/${family}`,
      quick: true,
    });
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [] });
    const isFloat32 = (unit: string) => run.startsWith("fp32") || /gate$|scores$/.test(unit);
    expectRecipes(verdict, (unit) => (isFloat32(unit) ? undefined : 0.98));
    const experts = verdict.recipes.find(({ unit }) => unit.endsWith(".experts"))!;
    // Two outputs are added in any order alike.
    const tells = run === "bf16-eager-eager" && family !== "mixtral";
    if (tells) expect(JSON.stringify(experts)).toContain("one expert after the other");
  });
});

/** What is wrong in one mixture of the model, what it is called, and the value that shows it. */
const faults: [family: string, fault: string, cause: string, unit: string][] = [
  ["qwen3_moe", "not-renormalised", "routing-not-renormalised", "layers.2.mlp.gate.scores"],
  ["qwen3_moe", "next-expert", "expert-map-shifted", "layers.2.mlp.experts"],
  ["qwen3_moe", "capacity", "tokens-dropped", "layers.2.mlp.experts"],
  ["qwen3_moe", "weights-of-next-token", "routing-weights-of-another-row", "layers.2.mlp.experts"],
  ["qwen2_moe", "renormalised", "routing-renormalised", "layers.1.mlp.gate.scores"],
  ["qwen2_moe", "without-shared-gate", "shared-gate-ignored", "layers.1.mlp"],
  ["mixtral", "gate-and-up-exchanged", "gate-up-swapped", "layers.1.mlp.experts"],
  ["mixtral", "mlp-reads-stream", "operand-unnormed", "layers.0.mlp.gate"],
  ["mixtral", "expert-of-another-rank", "expert-map-shifted", "layers.1.mlp.experts"],
  ["gpt_oss", "softmax-before-top-k", "routing-order", "layers.1.mlp.router.scores"],
  ["gpt_oss", "halves-for-pairs", "gate-up-interleaved", "layers.1.mlp.experts"],
  ["gpt_oss", "without-clamp", "gate-limit-missing", "layers.1.mlp.experts"],
  ["gpt_oss", "without-sinks", "attention-sink-missing", "layers.0.self_attn.o_proj.input"],
  ["glm4_moe", "bias-ignored", "routing-bias-ignored", "layers.2.mlp.gate.indices"],
  ["glm4_moe", "bias-doubled", "routing-bias-doubled", "layers.2.mlp.gate.indices"],
  ["glm4_moe", "biased-weights", "routing-bias-in-weights", "layers.2.mlp.gate.scores"],
  ["glm4_moe", "router-in-bfloat16", "router-precision", "layers.2.mlp.gate"],
  ["glm4_moe", "without-scale", "routing-scale", "layers.2.mlp.gate.scores"],
  ["glm4_moe", "averaged", "routing-weights-ignored", "layers.2.mlp.experts"],
  ["glm4_moe", "without-routed-experts", "routed-experts-missing", "layers.2.mlp"],
  ["glm4_moe", "shared-expert-twice", "shared-expert-repeated", "layers.2.mlp"],
  ["glm4_moe", "without-shared-expert", "shared-expert-missing", "layers.2.mlp"],
];

/** Faults in every layer: how many units show them. */
const everywhere: Readonly<Record<string, number>> = { "without-sinks": 3, "mlp-reads-stream": 4 };

describe("a fault in Hugging Face's code for experts", () => {
  test.each(faults)("%s: %s is %s, there and nowhere else", async (family, fault, cause, unit) => {
    const model = `${golden}/${family}`;
    const file = `${fault === "mlp-reads-stream" ? "common" : "fault"}-${fault}.safetensors`;
    const verdict = await briefVerdict(`${model}/${file}`, model);
    expect(verdict.verdict).toBe("fault");
    expect(verdict.causes.map((named) => named.cause)).toEqual([cause]);
    const units = verdict.causes[0]!.units;
    expect(units[0]).toBe(`model.${unit}`);
    expect(units).toHaveLength(everywhere[fault] ?? 1);
    expect(verdict.findings.every((finding) => finding.cause !== null)).toBe(true);
    expect(verdict.proof.reproduced.matched).toBe(verdict.proof.reproduced.of);
  });
});
