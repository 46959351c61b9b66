import type { CauseId } from "../../../src/diagnose/causes/catalogue.js";
import type { rankCauses } from "../../../src/diagnose/causes/ranks.js";
import type { recordCauses } from "../../../src/diagnose/causes/record-causes.js";
import { exchangedParameters } from "../../../src/lab/overlay.js";
import { type AttentionAttributes, attention } from "../../../src/spec/ops/attention.js";
import { rope } from "../../../src/spec/ops/rope.js";
import type { RopeAttributes } from "../../../src/spec/ops/rope-attributes.js";
import {
  attended,
  attending,
  changed,
  combined,
  copied,
  fetched,
  interleavedTable,
  lookingUp,
  operandCut,
  operandUnscaled,
  overflowing,
  readScaled,
  rewired,
  type Shown,
  turning,
} from "./injections.js";
import { shownExperts } from "./shown-experts.js";

const q = "self_attn.q_rope";
const norm = "input_layernorm";
const several = [[5, 4]];
const float32 = { store: "float32" } as const;
const padded = {
  lengths: [[6, 9]],
  padding: { side: "left", token: 0, rotary: "tokens", recorded: ["attention_mask"] },
} as const;
const paged = {
  lengths: [
    [6, 4],
    [1, 1],
  ],
  cache: { dtype: "bfloat16", layout: "NHD", pageSize: 4 },
} as const;

/** A run for every cause that is found by a rewrite; those of ranks have recordings of their own (ranks.test.ts). */
export const shown: Readonly<Record<Exclude<CauseId, keyof typeof recordCauses | keyof typeof rankCauses>, Shown>> = {
  "weight-scale-missed": { fault: "scale-missed", at: "mlp.up_proj", misread: ["awq", "scale-missed"] },
  "weight-scale-inverted": { fault: "scale-inverted", at: "mlp.up_proj", misread: ["fp8-blocks", "scale-inverted"] },
  "weight-scale-transposed": {
    fault: "scale-transposed",
    at: "mlp.up_proj",
    misread: ["packed-int4", "scale-transposed"],
  },
  "weight-scale-shifted": {
    fault: "scale-of-next-group",
    at: "mlp.up_proj",
    misread: ["mxfp4", "scale-of-next-group"],
  },
  "operand-scale-missed": { fault: operandUnscaled("mlp.up_proj"), at: "mlp.up_proj", keptIn: "fp8-rows" },
  "weight-zero-point-missed": { fault: "zero-point-missed", at: "mlp.up_proj", misread: ["awq", "zero-point-missed"] },
  "weight-zero-point-shifted": {
    fault: "zero-point-off-by-one",
    at: "mlp.up_proj",
    misread: ["gptq", "zero-point-off-by-one"],
  },
  "weight-packing-order": { fault: "awq-order-ignored", at: "mlp.up_proj", misread: ["awq", "awq-order-ignored"] },
  "weight-halves-exchanged": { fault: "halves-exchanged", at: "mlp.up_proj", misread: ["nvfp4", "halves-exchanged"] },
  "weight-group-order": { fault: "group-order-ignored", at: "mlp.up_proj", misread: ["gptq", "group-order-ignored"] },
  "embedding-row-shifted": { fault: "C9.15-embedding-row-shifted", values: { offset: 1 }, at: ".model.embed_tokens" },
  "token-ids-rounded": { fault: "C7.10-token-ids-rounded", at: ".model.embed_tokens" },
  "token-ids-truncated": { fault: lookingUp((token) => token % 256), at: ".model.embed_tokens" },
  "embedding-scaled": { fault: "C5-embedding-scaled", values: { factor: "sqrt" }, at: ".model.embed_tokens" },
  "embedding-token-wrong": { fault: "T03-token-wrong", values: { row: 3, token: 5 }, at: ".model.embed_tokens" },

  "norm-epsilon": { fault: "I01-norm-epsilon", values: { norm, epsilon: 0.02 }, at: norm },
  "norm-mean-subtracted": { fault: "I03-norm-mean-subtracted", values: { norm }, at: norm },
  "norm-statistics-rounded": { fault: "T16-norm-statistics-rounded", values: { norm }, at: norm },
  "norm-sum-overflow": { fault: overflowing, at: norm, store: "float16" },
  "norm-across-heads": {
    fault: "I16-norm-across-heads",
    values: { norm: "self_attn.q_norm" },
    at: "self_attn.q_norm",
    never: "mlp.act_fn",
  },
  "norm-divisor": { fault: "I05-norm-divisor", values: { norm, padding: 1.5 }, at: norm, ...float32 },
  "norm-part": { fault: "T06-norm-part", values: { norm, share: 0.5 }, at: norm },
  "norm-weight-absent": { fault: "I02-norm-weight-absent", values: { norm }, at: norm },
  "norm-weight-offset": { fault: "I02-norm-weight-offset", values: { norm, offset: 1 }, at: norm },
  "norm-weights-swapped": { fault: "I17-norm-weights-swapped", values: { norms: "hidden" }, at: norm },
  "norm-missing": { fault: "I15-norm-missing", values: { side: "q" }, at: "self_attn.q_norm" },
  "norm-twice": { fault: "C6-final-norm-twice", at: ".model", unit: ".lm_head" },
  "norm-after-rope": { fault: "I18-norm-after-rope", values: { side: "q" }, at: "self_attn.q_norm", unit: q },

  "bias-dropped": {
    fault: "I10-bias-dropped",
    values: { projection: "self_attn.k_proj" },
    at: "self_attn.k_proj",
    never: "mlp.up_proj",
    family: "qwen2",
  },
  "bias-scaled": {
    fault: "I10-bias-scaled",
    values: { projection: "self_attn.k_proj", factor: 4 },
    at: "self_attn.k_proj",
    never: "mlp.up_proj",
    family: "qwen2",
  },
  "weight-from-other-layer": {
    fault: "I11-weight-from-other-layer",
    values: { projection: "mlp.up_proj" },
    at: "mlp.up_proj",
  },
  "weight-swapped": {
    fault: ({ parameters }) => ({
      parameters: exchangedParameters(parameters, "model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.o_proj"),
    }),
    at: "self_attn.q_proj",
    family: "llama",
  },
  "weights-untied": { fault: "I70-weights-tied", at: ".lm_head", family: "llama" },
  "weight-transposed": {
    fault: "I11-weight-transposed",
    values: { projection: "self_attn.q_proj" },
    at: "self_attn.q_proj",
    family: "llama",
  },
  "heads-interleaved": { fault: "I08-heads-interleaved", at: "self_attn.q_proj" },
  "rope-weight-permuted": {
    fault: "C3.03-rope-weight-permuted",
    values: { side: "k" },
    at: "self_attn.k_proj",
    never: "self_attn.v_proj",
  },
  "operand-swapped": { fault: rewired("mlp.gate_proj", [norm]), at: "mlp.gate_proj" },
  "final-norm-skipped": { fault: "I02-final-norm-skipped", values: { recorded: "unused" }, at: ".lm_head" },
  "operand-unnormed": { fault: "C14-input-not-normed", values: { readers: "up_proj" }, at: "mlp.up_proj" },
  "reduction-incomplete": {
    fault: operandCut("mlp.up_proj", (column) => column < 32),
    at: "mlp.up_proj",
  },
  "accumulator-narrow": {
    fault: "C15.14-accumulator-narrow",
    values: { projection: "mlp.down_proj", dtype: "bfloat16", terms: 8 },
    at: "mlp.down_proj",
  },

  "rope-missing": { fault: "I22-rope-missing", values: { side: "q" }, at: q },
  "rope-twice": { fault: "I29-rope-twice", values: { side: "q" }, at: q },
  "rope-reversed": { fault: "I24-rope-reversed", values: { side: "q" }, at: q },
  "rope-interleaved": { fault: "I23-rope-interleaved", values: { side: "q" }, at: q },
  "rope-sine-dropped": { fault: "I28-rope-sine-dropped", values: { side: "q" }, at: q },
  "rope-sine-cosine-swapped": { fault: "I28-rope-sine-cosine-swapped", values: { side: "q" }, at: q },
  "rope-table-interleaved": { fault: interleavedTable, at: q, ...float32 },
  "rope-partial": { fault: "I27-rope-partial", values: { side: "q", share: 0.5 }, at: q },
  "rope-attention-factor": {
    fault: () => ({}),
    meaning: ({ op }) => rope({ ...(op.attributes as unknown as RopeAttributes), attentionFactor: 1.5 }),
    at: q,
  },
  "rope-theta": { fault: "I25-rope-theta", values: { side: "q", theta: 500000 }, at: q },
  "rope-linear-scale": { fault: "I25-rope-linear-scale", values: { side: "q", factor: 4 }, at: q },
  "rope-angles-rounded": { fault: "I31-rope-angles-rounded", at: q, lengths: [[40]] },
  "rope-frequencies-rounded": { fault: "I31-rope-frequencies-rounded", values: { side: "q" }, at: q, lengths: [[40]] },
  "rope-scaling-ignored": {
    fault: turning(() => ({ angle: (position, pair) => position * 500000 ** (-pair / 8) })),
    at: q,
    family: "llama",
    lengths: [[40]],
  },
  "rope-frequencies": {
    fault: turning(() => ({ angle: (position, pair) => position * 0.9 ** pair * (0.4 + 0.1 * Math.sin(5 * pair)) })),
    at: q,
    ...float32,
  },
  "position-offset": { fault: "I26-position-offset", values: { side: "q", offset: 3 }, at: q },
  "position-restarts": {
    fault: turning(() => ({ position: (row, _, table) => row - table.steps[table.stepOf[row]!]!.firstRow })),
    at: q,
    lengths: several,
  },
  "position-reversed": {
    fault: turning(() => ({ position: (row, position, table) => table.keyCount(row) - 1 - position })),
    at: q,
  },
  "position-pads-counted": { fault: turning(() => ({ position: (row) => row % 9 })), at: q, ...padded },
  "positions-rounded": { fault: "I31-positions-rounded", values: { side: "q" }, at: q, lengths: [[280]] },
  "positions-wrong": { fault: turning(() => ({ position: (_, position) => (position * 7) % 12 })), at: q },
  "rope-table-clamped": { fault: "I30-rope-table-clamped", values: { side: "q", length: 8 }, at: q },
  "rope-table-wrapped": { fault: turning(() => ({ position: (_, position) => position % 8 })), at: q },

  "softmax-scale": { fault: "I54-softmax-scale", values: { scale: "double" }, at: attended },
  "soft-cap": { fault: "I55-soft-cap", values: { cap: 5 }, at: attended },
  "soft-cap-missing": {
    fault: () => ({}),
    meaning: ({ op }) => attention({ ...(op.attributes as unknown as AttentionAttributes), softCap: 2 }),
    at: attended,
  },
  "attention-sink": { fault: "I55-attention-sink", values: { sink: 1 }, at: attended },
  alibi: {
    fault: attending((_, { heads }) => ({
      // Six heads: four slopes of four, and every second of eight.
      score: (score, head, query, key) =>
        score - 2 ** (head < 4 ? -2 * (head + 1) : -(2 * (head - 4) + 1)) * (query - key) * (heads / 6),
    })),
    at: attended,
  },
  "causal-missing": { fault: "I56-causal-missing", at: attended },
  "causal-strict": { fault: "I56-causal-strict", at: attended },
  "causal-top-left": { fault: "I56-causal-top-left", at: attended },
  "causal-ahead": { fault: "I56-causal-ahead", at: attended },
  "causal-behind": { fault: attending(() => ({ mask: (query, key) => key <= query - 2 })), at: attended },
  window: { fault: "I57-window", values: { window: 4 }, at: attended },
  "window-missing": { fault: "I57-window-absent", at: attended, family: "qwen2" },
  "first-keys-skipped": { fault: "T04-first-keys-masked", values: { keys: 2 }, at: attended },
  "last-page-length": { fault: "I50-last-page-length", at: attended, ...paged },
  "page-table-stale": {
    fault: "I50-plan-stale",
    at: attended,
    ...paged,
    lengths: [
      [6, 4],
      [1, 1],
      [1, 1],
      [1, 1],
    ],
  },
  "history-unseen": { fault: "I24-history-unseen", at: attended },
  "key-length-short": { fault: "I50-newest-key-unseen", at: attended },
  "keys-of-other-sequence": {
    fault: "C10.05-cache-of-other-sequence",
    values: { which: "next", steps: "all" },
    at: attended,
  },
  "keys-skipped": { fault: "C9.01-key-tile-skipped", values: { tile: 4 }, at: attended },
  "key-tail-dropped": {
    fault: attending((table) => ({
      visible: (row, position) => {
        const count = table.position[row]! + 1;
        return count < 4 || position < count - (count % 4);
      },
    })),
    at: attended,
  },
  "merge-wrong": { fault: "T15-merge-wrong", values: { rule: "base" }, at: attended },
  "gqa-tiled": { fault: "I53-gqa-tiled", values: { operand: "both" }, at: attended },
  "gqa-head-zero": { fault: "I53-gqa-head-zero", values: { operand: "both" }, at: attended },
  "gqa-shifted": {
    fault: attending(() => ({ keyHead: (head) => (head < 3 ? 1 : 0), valueHead: (head) => (head < 3 ? 1 : 0) })),
    at: attended,
  },
  "gqa-reversed": { fault: attending(() => ({ valueHead: (head) => (head < 3 ? 1 : 0) })), at: attended },
  "query-unrotated": {
    fault: rewired(attended, ["self_attn.q_norm", "self_attn.k_cache", "self_attn.v_cache"]),
    at: attended,
  },
  "key-unrotated": { fault: "I33-key-unrotated", at: attended },
  "operands-unrotated": {
    fault: rewired(attended, ["self_attn.q_norm", "self_attn.k_norm", "self_attn.v_cache"]),
    at: attended,
  },
  "key-value-swapped": { fault: "I40-caches-swapped", at: attended },
  "query-unnormalised": {
    fault: rewired(attended, ["self_attn.q_proj", "self_attn.k_cache", "self_attn.v_cache"]),
    at: attended,
  },
  "key-unnormalised": {
    fault: rewired(attended, [q, "self_attn.k_proj", "self_attn.v_cache"]),
    at: attended,
  },
  "cache-of-other-layer": { fault: "I12-stale-operand", values: { operand: 1 }, at: attended },
  "padding-attended": { fault: attending(() => ({})), at: attended, ...padded },
  "cache-unwritten": {
    fault: "I56-newest-unwritten",
    values: { cache: "v" },
    at: "self_attn.v_cache",
    unit: attended,
  },
  "cache-stale": {
    fault: "I56-newest-stale",
    values: { cache: "k", holds: "before" },
    at: "self_attn.k_cache",
    unit: attended,
  },
  "cached-before-rope": {
    fault: rewired("self_attn.k_cache", ["self_attn.k_norm"]),
    at: "self_attn.k_cache",
    ...paged,
  },
  "cache-scale": {
    fault: readScaled("self_attn.v_cache", 8),
    at: attended,
    ...paged,
    cache: {
      dtype: "int8",
      layout: "NHD",
      pageSize: 4,
      scales: () => ({ written: 0.125, claimed: { output: 0.125, input: 0.125 } }),
    },
  },

  "residual-dropped": { fault: "I63-residual-dropped", values: { branch: "mlp" }, at: "" },
  "branch-dropped": { fault: "I64-branch-scaled", values: { branch: "mlp", factor: 0 }, at: "" },
  "residual-subtracted": { fault: "I63-branch-subtracted", values: { branch: "mlp" }, at: "" },
  "residual-doubled": { fault: "I63-residual-doubled", values: { branch: "mlp" }, at: "" },
  "branch-scaled": { fault: "T06-branch-share", values: { factor: 0.9 }, at: "" },
  "residual-scaled": { fault: combined("", ([stream, branch]) => 8 * stream! + branch!), at: "" },
  "residual-misdirected": { fault: "I63-residual-misdirected", at: "" },
  "activation-wrong": {
    fault: "C6-activation-wrong",
    values: { activation: "quick_gelu" },
    at: "mlp.act_fn",
    unit: "mlp.down_proj",
    never: norm,
  },
  "gate-up-swapped": { fault: "I09-gate-up-swapped", at: "mlp.down_proj.input", unit: "mlp.down_proj" },
  "multiply-missing": {
    fault: "C6-multiply-missing",
    values: { kept: "up" },
    at: "mlp.down_proj.input",
    unit: "mlp.down_proj",
  },
  "layer-skipped": { fault: "T14-layer-skipped", values: { layer: 0 }, at: norm },
  "layers-exchanged": { fault: "T13-layers-exchanged", values: { layer: 0 }, at: norm },
  "layer-repeated": { fault: "T13-layer-repeated", values: { layer: 1 }, at: norm },
  "gathered-row-wrong": {
    fault: "C9.15-last-row-wrong",
    values: { row: "before" },
    at: ".lm_head.input",
    unit: ".lm_head",
  },
  "logits-soft-cap": { fault: "I55-logits-soft-cap", values: { cap: 5 }, at: ".lm_head" },

  "weight-quantised": {
    fault: "T09-weight-quantised",
    values: { projection: "self_attn.o_proj", type: "int8", part: "row" },
    at: "self_attn.o_proj",
  },
  "activation-quantised": {
    fault: "T09-activation-quantised",
    values: { projection: "mlp.up_proj", type: "int8", part: "row" },
    at: "mlp.up_proj",
  },
  "cache-rounded": { fault: "T09-cache-rounded", values: { cache: "v", type: "int8", part: "row" }, at: attended },
  "probabilities-quantised": { fault: "T09-probabilities-quantised", values: { type: "e4m3" }, at: attended },
  "heads-permuted": { fault: "I67-heads-permuted", values: { order: "reversed" }, at: "self_attn.o_proj" },
  "strides-ignored": { fault: "I12-strides-ignored", values: { slice: "q" }, at: "self_attn.q_norm" },
  "dtype-bits": { fault: "I42-activation-bits", values: { projection: "up_proj" }, at: "mlp.up_proj" },
  "rows-shifted": { fault: "C10.06-rows-shifted", values: { projection: "mlp.up_proj" }, at: "mlp.up_proj" },
  "columns-permuted": {
    fault: fetched("mlp.up_proj", (_, column, width) => ({ column: width - 1 - column })),
    at: "mlp.up_proj",
  },
  "vocabulary-permuted": { fault: "I70-vocabulary-permuted", values: { shards: 2 }, at: ".lm_head" },
  "value-replaced": {
    fault: copied("self_attn.q_norm", ".model.layers.0.self_attn.q_norm"),
    at: "self_attn.q_norm",
  },
  "columns-unwritten": {
    fault: "I14-columns-unwritten",
    values: { projection: "mlp.up_proj", columns: 24, content: "zero" },
    at: "mlp.up_proj",
  },
  "rows-unwritten": {
    fault: "C9.13-rows-unwritten",
    values: { projection: "mlp.up_proj", tile: 7, content: "zero" },
    at: "mlp.up_proj",
  },
  "tile-unwritten": {
    fault: fetched("mlp.up_proj", (row, column) => (row >= 6 && column >= 64 ? undefined : {})),
    at: "mlp.up_proj",
  },
  clamped: { fault: "T10-clamped", values: { value: "mlp.up_proj", limit: 0.5 }, at: "mlp.up_proj" },
  dropout: { fault: "T14-branch-dropout", values: { share: 0.2, seed: 5 }, at: "" },
  scaled: { fault: "C7.09-scaled", values: { projection: "mlp.up_proj", factor: 2 }, at: "mlp.up_proj" },
  "column-gain": {
    fault: changed("mlp.up_proj", (x, _, column) => x * (1 + Math.sin(column) / 4)),
    at: "mlp.up_proj",
    ...float32,
  },
  "row-gain": { fault: changed("mlp.up_proj", (x, row) => x * (1 + Math.sin(row) / 4)), at: "mlp.up_proj", ...float32 },
  "row-head-gain": {
    fault: changed("self_attn.q_norm", (x, row, column) => x * (1 + Math.sin(7 * row + (column >> 4)) / 4)),
    at: "self_attn.q_norm",
    ...float32,
  },
  "additive-constant": {
    fault: "I10-additive-constant",
    values: { projection: "mlp.up_proj", magnitude: 16, seed: 3 },
    at: "mlp.up_proj",
  },
  "low-rank-delta": {
    fault: "T11-low-rank-delta",
    values: { projection: "mlp.up_proj", rank: 1, size: 0.3, seed: 3 },
    at: "mlp.up_proj",
    lengths: [[24]],
  },
  "element-wrong": {
    fault: "T14-element-wrong",
    values: { value: "mlp.up_proj", row: 3, column: 5, holds: 7 },
    at: "mlp.up_proj",
  },

  "multiplier-missing": {
    fault: { family: "granite", name: "residual-unscaled" },
    at: "self_attn.scaled",
    unit: "post_attention_layernorm",
  },
  "multiplier-repeated": { fault: { family: "gemma2", name: "embedding-scaled-twice" }, at: ".model.embed_tokens" },
  "logits-cap-missing": { fault: { family: "gemma2", name: "logits-uncapped" }, at: ".logits", never: ".lm_head" },
  "norm-of-sum": { fault: { family: "gemma2", name: "norm-of-sum" }, at: "post_attention_layernorm" },
  "norm-per-head": { fault: { family: "olmo2", name: "norm-per-head" }, at: "self_attn.q_norm" },
  "rope-of-other-layers": { fault: { family: "gemma3_text", name: "thetas-exchanged" }, at: q },
  "rope-where-none": { fault: { family: "smollm3", name: "rope-everywhere" }, at: q },
  "rope-for-other-length": { fault: { family: "phi3", name: "long-factors" }, at: q },
  "rope-whole-head": { fault: { family: "phi3", name: "whole-head-turns" }, at: q },
  ...shownExperts,
};
