import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseModelConfig } from "../../src/spec/models/config.js";
import { expectedParameters } from "../../src/spec/models/decoder.js";
import { encode } from "../../src/tensor/dtype.js";
import { writeSafetensors } from "../../src/tensor/safetensors.js";

const config = {
  model_type: "qwen3",
  hidden_size: 1024,
  intermediate_size: 3072,
  num_hidden_layers: 3,
  num_attention_heads: 16,
  num_key_value_heads: 8,
  head_dim: 128,
  vocab_size: 2048,
  max_position_embeddings: 40960,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  tie_word_embeddings: true,
  hidden_act: "silu",
  dtype: "bfloat16",
};

const inLayer = [
  "input_layernorm",
  ...["q_proj", "k_proj", "v_proj", "q_norm", "k_norm", "o_proj"].map((name) => `self_attn.${name}`),
  "post_attention_layernorm",
  ...["gate_proj", "up_proj", "down_proj"].map((name) => `mlp.${name}`),
];

/** The checkpoint of scripts/record_wide.py once more, in `folder`: its weights are a hash of their place. */
export function writeWideModel(folder: string): void {
  const expected = expectedParameters(parseModelConfig(config, "config.json"));
  // Their order is part of the hash.
  const names = [
    "model.embed_tokens",
    ...Array.from({ length: config.num_hidden_layers }, (_, layer) =>
      inLayer.map((name) => `model.layers.${layer}.${name}`),
    ).flat(),
    "model.norm",
  ];
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "config.json"), JSON.stringify(config));
  const tensors = names.map((module, index) => {
    const name = `${module}.weight`;
    const shape = expected.get(name)!;
    const bytes = encode(weightValues(index, shape), "bfloat16");
    return { name, dtype: "bfloat16" as const, shape, bytes };
  });
  writeSafetensors(join(folder, "model.safetensors"), tensors);
}

/** Multiples of 2^-6 in [-1, 1) for matrices, of 2^-3 in [0.5, 2.5) for norms; matrices scaled by a power of two. */
function weightValues(index: number, shape: readonly number[]): Float64Array {
  const scale = shape.length === 1 ? 1 : 2 ** -Math.round(Math.log2(shape[1]!) / 2);
  const out = new Float64Array(shape.reduce((product, n) => product * n, 1));
  const start = Math.imul(index, 40503);
  for (let i = 0; i < out.length; i++) {
    let hashed = (Math.imul(i, 2654435761) + start) >>> 0;
    hashed = Math.imul(hashed ^ (hashed >>> 15), 2246822519) >>> 0;
    hashed = (hashed ^ (hashed >>> 13)) >>> 0;
    out[i] = shape.length === 1 ? 0.5 + (hashed >>> 28) / 8 : ((hashed >>> 25) / 64 - 1) * scale;
  }
  return out;
}
