import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { briefVerdict } from "./brief-verdict.js";

const folder = "test/golden/families";

/** What each fault of scripts/family_faults.py is called. */
const causes: Readonly<Record<string, readonly string[]>> = {
  "attention-factor": ["rope-attention-factor"],
  "biases-dropped": ["bias-dropped"],
  "down-bias-twice": ["bias-scaled"],
  "embedding-scaled-twice": ["multiplier-repeated"],
  "embedding-unit": ["embedding-scaled"],
  "embedding-unscaled": ["multiplier-missing"],
  epsilon: ["norm-epsilon"],
  "gate-not-activated": ["activation-wrong"],
  "gate-up": ["gate-up-swapped"],
  gelu: ["activation-wrong"],
  "head-dim-of-model": ["softmax-scale"],
  "head-dim-scale": ["softmax-scale"],
  "head-norms-exchanged": ["norm-weights-swapped"],
  "heads-tiled": ["gqa-tiled"],
  interleaved: ["rope-interleaved"],
  "key-bias-dropped": ["bias-dropped"],
  "keys-unrotated": ["rope-missing"],
  "logits-uncapped": ["logits-cap-missing"],
  "logits-unscaled": ["multiplier-missing"],
  "logits-without-norm": ["norm-missing"],
  "long-factors": ["rope-for-other-length"],
  "mlp-reads-stream": ["operand-unnormed"],
  "no-attention-residual": ["residual-dropped"],
  "no-mlp-residual": ["residual-dropped"],
  "no-post-norm": ["norm-missing"],
  "no-query-key-norm": ["norm-missing"],
  "no-query-norm": ["norm-missing"],
  "no-rope": ["rope-missing"],
  "norm-after-rope": ["norm-after-rope"],
  "norm-of-sum": ["norm-of-sum"],
  "norm-per-head": ["norm-per-head"],
  // The theta of the other layers is a wrong theta too: both say the same.
  "one-theta": ["rope-of-other-layers"],
  "output-bias-dropped": ["bias-dropped"],
  "packed-gate-up": ["gate-up-swapped"],
  "packed-key-value": ["key-value-swapped"],
  relu: ["activation-wrong"],
  "residual-scaled-twice": ["multiplier-repeated"],
  "residual-unscaled": ["multiplier-missing"],
  "rope-everywhere": ["rope-where-none"],
  "rope-exchanged": ["rope-missing", "rope-where-none"],
  "rope-nowhere": ["rope-missing"],
  "rope-unscaled": ["rope-scaling-ignored"],
  "scores-uncapped": ["soft-cap-missing"],
  silu: ["activation-wrong"],
  theta: ["rope-theta"],
  "thetas-exchanged": ["rope-of-other-layers"],
  "unscaled-scores": ["softmax-scale"],
  "value-bias-twice": ["bias-scaled"],
  "weight-without-one": ["norm-weight-offset"],
  "whole-head-turns": ["rope-whole-head"],
  "window-ignored": ["window-missing"],
};

describe.each(readdirSync(folder))("faults in transformers' code of %s", (family) => {
  const model = join(folder, family);
  const faults = readdirSync(join(model, "faults")).map((file) => file.replace(".safetensors", ""));

  test("are ten or more", () => {
    expect(faults.length).toBeGreaterThanOrEqual(10);
  });

  test.each(faults)("%s is named where it is, and nothing else", async (fault) => {
    const verdict = await briefVerdict(join(model, "faults", `${fault}.safetensors`), model);
    expect(verdict.verdict).toBe(fault === "one-theta" ? "ambiguous" : "fault");
    expect(new Set(verdict.causes.map(({ cause }) => cause))).toEqual(new Set(causes[fault]));
    expect(verdict.findings.filter(({ cause }) => cause === null)).toEqual([]);
    const { matched, of } = verdict.proof.reproduced;
    expect(matched).toBe(of);
    for (const { parameters } of verdict.causes) {
      if (fault === "no-attention-residual") expect(parameters.branch).toBe("attention");
      if (fault === "no-mlp-residual") expect(parameters.branch).toBe("mlp");
    }
  });
});
