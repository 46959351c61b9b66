import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { CauseId } from "../../../src/diagnose/causes/catalogue.js";
import { type BatchLengths, randomSteps } from "../../../src/lab/batch.js";
import { findFault } from "../../../src/lab/catalogue.js";
import type { FaultValues, Situation } from "../../../src/lab/fault.js";
import { randomGenerator } from "../../../src/lab/random.js";
import { runLab } from "../../../src/lab/run.js";
import { type TinyFamily, writeTinyModel } from "../../../src/lab/tiny-model.js";
import type { DType } from "../../../src/tensor/dtype.js";
import { temporaryFolder } from "../../lab/folder.js";
import { briefVerdict } from "../brief-verdict.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 2, vocab_size: 600 };
const models = new Map(
  (["qwen3", "qwen2", "llama"] as const).map((family) => [
    family,
    writeTinyModel(join(folder, family), { family, seed: 4, config }),
  ]),
);

interface Case {
  readonly fault: string;
  readonly values?: FaultValues;
  /** What must be named, and of which value of layer 1 (or of the model). */
  readonly cause: CauseId | readonly CauseId[];
  readonly unit: string;
  readonly family?: TinyFamily;
  readonly store?: DType;
  readonly layer?: number;
}

/** Tokens each sequence adds in each step: few. */
const lengths: Partial<Record<Situation, BatchLengths>> = {
  chunked: [
    [5, 3],
    [4, 1],
  ],
  "decode-batch": [
    [6, 4],
    [1, 1],
    [1, 1],
  ],
  paged: [
    [6, 4],
    [1, 1],
  ],
};

let runs = 0;

async function verdictOn({
  fault: id,
  values = {},
  family = "qwen3",
  store = "bfloat16",
  layer = 1,
}: Omit<Case, "cause" | "unit">) {
  const fault = findFault(id);
  const model = models.get(family)!;
  const plain = fault.situation === "any";
  const path = join(folder, `run-${runs++}${plain ? ".safetensors" : ""}`);
  runLab({
    model,
    store,
    path,
    steps: randomSteps(randomGenerator(7), model.config.vocabularySize, lengths[fault.situation] ?? [[12]]),
    faults: [{ fault, layers: [layer], values }],
    ...(fault.situation === "paged" && { cache: { dtype: store, layout: "NHD" as const, pageSize: 4 } }),
  });
  return briefVerdict(path, model.directory);
}

const attention = "self_attn.o_proj.input";
const groups: Record<string, readonly Case[]> = {
  norms: [
    {
      fault: "I01-norm-epsilon",
      values: { norm: "input_layernorm", epsilon: 0.02 },
      cause: "norm-epsilon",
      unit: "input_layernorm",
    },
    {
      fault: "I19-head-norm-epsilon",
      values: { norm: "self_attn.k_norm", epsilon: 0.05 },
      cause: "norm-epsilon",
      unit: "self_attn.k_norm",
    },
    {
      fault: "I02-norm-weight-offset",
      values: { norm: "post_attention_layernorm", offset: 1 },
      cause: "norm-weight-offset",
      unit: "post_attention_layernorm",
      family: "llama",
    },
    {
      fault: "I02-norm-weight-absent",
      values: { norm: "self_attn.q_norm" },
      cause: "norm-weight-absent",
      unit: "self_attn.q_norm",
    },
    {
      fault: "I03-norm-mean-subtracted",
      values: { norm: "input_layernorm" },
      cause: "norm-mean-subtracted",
      unit: "input_layernorm",
    },
    {
      fault: "I05-norm-divisor",
      values: { norm: "input_layernorm", padding: 1.5 },
      cause: "norm-divisor",
      unit: "input_layernorm",
      store: "float32",
    },
    {
      fault: "I16-norm-across-heads",
      values: { norm: "self_attn.q_norm" },
      cause: "norm-across-heads",
      unit: "self_attn.q_norm",
    },
    { fault: "I15-norm-missing", values: { side: "k" }, cause: "norm-missing", unit: "self_attn.k_norm" },
    {
      fault: "I17-norm-weights-swapped",
      values: { norms: "head" },
      cause: "norm-weights-swapped",
      unit: "self_attn.q_norm",
    },
    { fault: "I18-norm-after-rope", values: { side: "q" }, cause: "norm-after-rope", unit: "self_attn.q_rope" },
    { fault: "I18-norm-module-idle", cause: "norm-after-rope", unit: "self_attn.q_rope" },
    {
      fault: "T06-norm-part",
      values: { norm: "input_layernorm", share: 0.5 },
      cause: "norm-part",
      unit: "input_layernorm",
    },
    {
      fault: "T16-norm-statistics-rounded",
      values: { norm: "input_layernorm" },
      cause: "norm-statistics-rounded",
      unit: "input_layernorm",
    },
    { fault: "C6-final-norm-twice", cause: "norm-twice", unit: "lm_head" },
    { fault: "I02-final-norm-skipped", cause: "final-norm-skipped", unit: "lm_head", family: "llama" },
  ],
  rotations: [
    { fault: "I22-rope-missing", values: { side: "q" }, cause: "rope-missing", unit: "self_attn.q_rope" },
    {
      fault: "C3.03-rope-weight-permuted",
      values: { side: "k" },
      cause: "rope-weight-permuted",
      unit: "self_attn.k_proj",
    },
    { fault: "I29-rope-twice", values: { side: "k" }, cause: "rope-twice", unit: "self_attn.k_rope" },
    { fault: "I23-rope-interleaved", values: { side: "both" }, cause: "rope-interleaved", unit: "self_attn.q_rope" },
    {
      fault: "I24-rope-reversed",
      values: { side: "q" },
      cause: "rope-reversed",
      unit: "self_attn.q_rope",
      store: "float16",
    },
    { fault: "I25-rope-theta", values: { side: "q", theta: 500000 }, cause: "rope-theta", unit: "self_attn.q_rope" },
    {
      fault: "I26-position-offset",
      values: { side: "k", offset: 3 },
      cause: "position-offset",
      unit: "self_attn.k_rope",
    },
    { fault: "I27-rope-partial", values: { side: "q", share: 0.5 }, cause: "rope-partial", unit: "self_attn.q_rope" },
    { fault: "I28-rope-sine-dropped", values: { side: "q" }, cause: "rope-sine-dropped", unit: "self_attn.q_rope" },
    { fault: "I33-key-unrotated", cause: ["key-unrotated", "cached-before-rope"], unit: attention },
  ],
  products: [
    { fault: "I09-key-value-swapped", cause: "key-value-swapped", unit: "self_attn.k_proj" },
    {
      fault: "I10-bias-dropped",
      values: { projection: "self_attn.q_proj" },
      cause: "bias-dropped",
      unit: "self_attn.q_proj",
      family: "qwen2",
    },
    {
      fault: "I11-weight-transposed",
      values: { projection: "self_attn.q_proj" },
      cause: "weight-transposed",
      unit: "self_attn.q_proj",
      family: "llama",
    },
    { fault: "C14-input-not-normed", values: { readers: "mlp" }, cause: "operand-unnormed", unit: "mlp.up_proj" },
    {
      fault: "T11-low-rank-delta",
      values: { projection: "mlp.up_proj", rank: 2, size: 0.3, seed: 3 },
      cause: "low-rank-delta",
      unit: "mlp.up_proj",
    },
    {
      fault: "C15.14-accumulator-narrow",
      values: { projection: "mlp.down_proj", dtype: "bfloat16", terms: 8 },
      cause: "accumulator-narrow",
      unit: "mlp.down_proj",
    },
    {
      fault: "C15.14-accumulator-narrow",
      values: { projection: "mlp.up_proj", dtype: "float16", terms: 1 },
      cause: "accumulator-narrow",
      unit: "mlp.up_proj",
      store: "float32",
    },
    { fault: "I42-activation-bits", values: { projection: "up_proj" }, cause: "dtype-bits", unit: "mlp.up_proj" },
    { fault: "T10-clamped", values: { value: "mlp.up_proj", limit: 0.5 }, cause: "clamped", unit: "mlp.up_proj" },
    {
      fault: "T14-element-wrong",
      values: { value: "mlp.gate_proj", row: 5, column: 9, holds: 7 },
      cause: "element-wrong",
      unit: "mlp.gate_proj",
    },
    { fault: "I67-heads-permuted", values: { order: "reversed" }, cause: "heads-permuted", unit: "self_attn.o_proj" },
  ],
  attention: [
    { fault: "I53-gqa-tiled", values: { operand: "both" }, cause: "gqa-tiled", unit: attention },
    { fault: "T07-scale-off", values: { factor: 1.15 }, cause: "softmax-scale", unit: attention },
    { fault: "I55-soft-cap", values: { cap: 5 }, cause: "soft-cap", unit: attention },
    { fault: "I55-attention-sink", values: { sink: 1 }, cause: "attention-sink", unit: attention },
    { fault: "I56-causal-strict", cause: "causal-strict", unit: attention },
    { fault: "I57-window", values: { window: 4 }, cause: "window", unit: attention },
    { fault: "T06-alibi", cause: "alibi", unit: attention },
    { fault: "T15-merge-wrong", values: { rule: "base" }, cause: "merge-wrong", unit: attention },
    { fault: "T04-first-keys-masked", values: { keys: 1 }, cause: "first-keys-skipped", unit: attention },
    { fault: "T14-attention-dropout", values: { share: 0.3, seed: 5 }, cause: "dropout", unit: attention },
    { fault: "I40-caches-swapped", cause: "key-value-swapped", unit: attention },
  ],
  "keys and values of several steps": [
    { fault: "I56-newest-unwritten", values: { cache: "v" }, cause: "cache-unwritten", unit: attention },
    { fault: "I56-newest-stale", values: { cache: "k", holds: "before" }, cause: "cache-stale", unit: attention },
    {
      fault: "C10.05-cache-of-other-sequence",
      values: { which: "next", steps: "all" },
      cause: "keys-of-other-sequence",
      unit: attention,
    },
    { fault: "I24-history-unseen", cause: "history-unseen", unit: attention },
    { fault: "I56-causal-top-left", cause: "causal-top-left", unit: attention },
    { fault: "I50-last-page-length", cause: "last-page-length", unit: "kv_last_page_len" },
  ],
  "the stream": [
    {
      fault: "I63-residual-doubled",
      values: { branch: "attention" },
      cause: "residual-doubled",
      unit: "post_attention_layernorm",
    },
    { fault: "I64-branch-scaled", values: { branch: "mlp", factor: 0.5 }, cause: "branch-scaled", unit: "" },
    { fault: "T06-branch-share", values: { factor: 0.9 }, cause: "branch-scaled", unit: "" },
    { fault: "I63-residual-misdirected", cause: "residual-misdirected", unit: "" },
    { fault: "T14-branch-dropout", values: { share: 0.2, seed: 5 }, cause: "dropout", unit: "" },
    {
      fault: "C6-activation-wrong",
      values: { activation: "quick_gelu" },
      cause: "activation-wrong",
      unit: "mlp.down_proj",
    },
    { fault: "C6-multiply-missing", values: { kept: "up" }, cause: "multiply-missing", unit: "mlp.down_proj" },
    { fault: "I09-gate-up-swapped", cause: "gate-up-swapped", unit: "mlp.down_proj" },
    { fault: "T13-layer-repeated", values: { layer: 1 }, cause: "layer-repeated", unit: "input_layernorm" },
  ],
  quantisation: [
    ...(
      [
        ["e4m3", "block"],
        ["e5m2", "row"],
        ["int8", "tensor"],
        ["int4", 32],
      ] as const
    ).map(
      ([type, part]): Case => ({
        fault: "T09-weight-quantised",
        values: { projection: "self_attn.o_proj", type, part },
        cause: "weight-quantised",
        unit: "self_attn.o_proj",
      }),
    ),
    {
      fault: "T09-activation-quantised",
      values: { projection: "mlp.up_proj", type: "int8", part: "row" },
      cause: "activation-quantised",
      unit: "mlp.up_proj",
    },
    {
      fault: "T09-cache-rounded",
      values: { cache: "k", type: "e4m3", part: "head" },
      cause: "cache-rounded",
      unit: attention,
    },
    {
      fault: "T09-cache-rounded",
      values: { cache: "v", type: "int8", part: "row" },
      cause: "cache-rounded",
      unit: attention,
    },
    {
      fault: "T09-probabilities-quantised",
      values: { type: "e4m3" },
      cause: "probabilities-quantised",
      unit: attention,
    },
  ],
  "both ends": [
    { fault: "C5-embedding-scaled", values: { factor: 8 }, cause: "embedding-scaled", unit: "embed_tokens" },
    { fault: "C7.10-token-ids-rounded", cause: "token-ids-rounded", unit: "embed_tokens" },
    { fault: "I55-logits-soft-cap", values: { cap: 5 }, cause: "logits-soft-cap", unit: "lm_head" },
    { fault: "I70-weights-tied", cause: "weights-untied", unit: "lm_head", family: "llama" },
  ],
};

describe.each(Object.entries(groups))("causes of %s", (_, cases) => {
  it.each(cases)("$fault $values: $cause", async (tried) => {
    const { causes } = await verdictOn(tried);
    const expected = [tried.cause].flat();
    expect(
      causes.flatMap(({ cause, alternatives }) => [cause, ...alternatives].filter((id) => expected.includes(id))),
    ).not.toEqual([]);
    expect(causes).toHaveLength(1);
    expect(causes[0]!.units.some((unit) => unit.endsWith(tried.unit))).toBe(true);
  });
});

describe("two causes in one op", () => {
  it.each([
    { op: "norm", causes: ["norm-mean-subtracted", "norm-weight-offset"] },
    { op: "sum", causes: ["branch-scaled", "residual-doubled"] },
  ])("$op: $causes", async ({ op, causes }) => {
    const verdict = await verdictOn({ fault: "T00-two-in-one", values: { op } });
    expect(verdict.causes.map(({ cause }) => cause).sort()).toEqual(causes);
  });
});

describe("where a cause changes nothing, none is named", () => {
  it.each([
    {
      title: "an epsilon far below the mean square",
      fault: "I01-norm-epsilon",
      values: { norm: "input_layernorm", epsilon: 1e-9 },
    },
    { title: "a clamp beyond all values", fault: "T10-clamped", values: { value: "mlp.up_proj", limit: 1e4 } },
    { title: "a soft cap far above the scores", fault: "I55-soft-cap", values: { cap: 1e6 } },
    { title: "a window as long as the text", fault: "I57-window", values: { window: 12 } },
    { title: "a tile of keys longer than the text", fault: "C9.01-key-tile-skipped", values: { tile: 64 } },
    {
      title: "an adapter of nothing",
      fault: "T11-low-rank-delta",
      values: { projection: "mlp.up_proj", rank: 1, size: 0, seed: 1 },
    },
  ])("$title", async (tried) => {
    const { verdict, causes, findings } = await verdictOn(tried);
    expect({ verdict, causes, findings }).toEqual({ verdict: "clean", causes: [], findings: [] });
  });
});
