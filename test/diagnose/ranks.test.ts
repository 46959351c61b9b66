import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import type { Verdict } from "../../src/diagnose/tell/verdict.js";
import { briefVerdict } from "./brief-verdict.js";
import { ranksOf, withoutTerms } from "./rank-recordings.js";

const folder = new URL("../golden/ranks", import.meta.url).pathname;
const copies = mkdtempSync(join(tmpdir(), "faultline-ranks-"));
afterAll(() => rmSync(copies, { recursive: true }));

const diagnoseRanks = (run: string, model: string) =>
  diagnose({ target: ranksOf(run), model: join(folder, "models", model), quick: true });
const briefly = (run: string, model: string) => briefVerdict(ranksOf(run), join(folder, "models", model));

/** Verdicts on the correct runs, each judged once. */
const known = new Map<string, Promise<Verdict>>();
function ofClean(run: string, model: string): Promise<Verdict> {
  const verdict = known.get(run) ?? diagnoseRanks(join(folder, "clean", run), model);
  known.set(run, verdict);
  return verdict;
}

const clean: [run: string, model: string][] = [
  ["qwen3-2-ranks-bf16", "qwen3"],
  ["qwen3-4-ranks-fp32", "qwen3"],
  ["llama-4-ranks-bf16", "llama"],
  ["llama-bias-2-ranks-bf16", "llama-bias"],
  ["llama-bias-2-ranks-fp32", "llama-bias"],
];

describe("a correct run of several ranks", () => {
  test.each(clean)("%s is clean", async (run, model) => {
    const { verdict, findings, causes, units, recipes, unchecked } = await ofClean(run, model);
    expect(verdict).toBe("clean");
    expect([...findings, ...causes, ...unchecked]).toEqual([]);
    const terms = units.filter(({ unit }) => unit.endsWith(".partial.*"));
    expect(terms.map(({ unit }) => unit)).toEqual(
      expect.arrayContaining(["model.layers.*.self_attn.o_proj.partial.*", "model.layers.*.mlp.down_proj.partial.*"]),
    );
    const sum = recipes.find(({ unit }) => unit === "model.layers.*.mlp.down_proj")!;
    expect(sum).toMatchObject({ matched: 2, of: 2 });
  });

  test.each(clean)("%s is clean where no term of a sum was recorded", async (run, model) => {
    const { verdict, findings, recipes } = await briefly(withoutTerms(join(folder, "clean", run), copies), model);
    expect(verdict).toBe("clean");
    expect(findings).toEqual([]);
    expect(recipes.find(({ unit }) => unit === "model.layers.*.mlp.down_proj")).toMatchObject({ matched: 2, of: 2 });
  });

  test("of four ranks, gloo's sums are those of its ring, bit for bit", async () => {
    const { recipes } = await ofClean("llama-4-ranks-bf16", "llama");
    expect(recipes.find(({ unit }) => unit === "model.layers.*.self_attn.o_proj")).toMatchObject({
      recipe: "sum-ring",
      equal: 1,
    });
  });
});

interface Expected {
  readonly cause: string;
  readonly layers: readonly number[];
  readonly unit: string;
  readonly parameters?: object;
  readonly model?: string;
  /** Whether the cause is named as well where no term was recorded. */
  readonly hidden?: boolean;
}

const faults: Record<string, Expected> = {
  "rank-missing": {
    cause: "rank-missing",
    layers: [1],
    unit: "model.layers.1.self_attn.o_proj",
    parameters: { rank: 1 },
    hidden: true,
  },
  "rank-missing-4-ranks": {
    cause: "rank-missing",
    layers: [1],
    unit: "model.layers.1.self_attn.o_proj",
    parameters: { rank: 3 },
    hidden: true,
  },
  "sum-skipped": { cause: "all-reduce-skipped", layers: [1], unit: "model.layers.1.mlp.down_proj", hidden: true },
  "residual-per-rank": {
    cause: "residual-per-rank",
    layers: [1],
    unit: "model.layers.1.post_attention_layernorm.input",
    parameters: { ranks: 2 },
    hidden: true,
  },
  "residual-per-rank-4-ranks": {
    cause: "residual-per-rank",
    layers: [1],
    unit: "model.layers.1.post_attention_layernorm.input",
    parameters: { ranks: 4 },
  },
  "bias-per-rank": {
    cause: "bias-per-rank",
    layers: [0, 1],
    unit: "model.layers.0.self_attn.o_proj.partial.1",
    model: "llama-bias",
  },
  "column-shards-reversed": {
    cause: "shards-in-another-order",
    layers: [0, 1],
    unit: "model.layers.0.self_attn.q_proj",
    parameters: { order: [1, 0] },
    hidden: true,
  },
  "row-shards-reversed": {
    cause: "shards-in-another-order",
    layers: [0, 1],
    unit: "model.layers.0.mlp.down_proj.partial.0",
  },
  "gather-reversed": {
    cause: "shards-in-another-order",
    layers: [],
    unit: "lm_head",
    parameters: { order: [1, 0] },
    hidden: true,
  },
  "key-heads-modulo-4-ranks": {
    cause: "key-heads-of-other-rank",
    layers: [0, 1],
    unit: "model.layers.0.self_attn.k_proj",
    parameters: { parts: [0, 1, 0, 1] },
    hidden: true,
  },
  "embedding-shifted": {
    cause: "vocabulary-shard-shifted",
    layers: [],
    unit: "model.embed_tokens.partial.1",
    parameters: { offset: 1 },
  },
  "logits-shifted": {
    cause: "vocabulary-shard-shifted",
    layers: [],
    unit: "lm_head",
    parameters: { offset: 1 },
    hidden: true,
  },
  "replica-differs": {
    cause: "replica-differs",
    layers: [1],
    unit: "model.layers.1.input_layernorm",
    parameters: { rank: 1, other: 0 },
    hidden: true,
  },
};

describe("a fault where ranks meet", () => {
  test("has a recording each", () => {
    expect(readdirSync(join(folder, "faults")).sort()).toEqual(Object.keys(faults).sort());
  });

  test.each(Object.entries(faults))("%s is named, and nothing else is", async (run, expected) => {
    const { cause, layers, unit, parameters = {}, model = "llama" } = expected;
    const verdict = await briefly(join(folder, "faults", run), model);
    expect(verdict.verdict).toBe("fault");
    expect(verdict.causes.map((found) => found.cause)).toEqual([cause]);
    expect(verdict.causes[0]).toMatchObject({ layers, parameters, alternatives: [] });
    expect(verdict.causes[0]!.units).toContain(unit);
    expect(verdict.findings.every((finding) => finding.cause === 0)).toBe(true);
  });

  test.each(Object.entries(faults).filter(([, { hidden }]) => hidden))(
    "%s is named where no term of a sum was recorded",
    async (run, { cause, layers, model = "llama" }) => {
      const verdict = await briefly(withoutTerms(join(folder, "faults", run), copies), model);
      expect(verdict.causes.map((found) => found.cause)).toEqual([cause]);
      expect(verdict.causes[0]).toMatchObject({ layers, alternatives: [] });
    },
  );
});
