import type { TinyModelOptions } from "../tiny-model.js";

/** A shape of model that correct runs are recorded of, and how many of them. */
export interface CorrectModel {
  readonly id: string;
  readonly options: TinyModelOptions;
  /** Runs per round of the set: small models more often than wide ones. */
  readonly share: number;
  /** Tokens that a sequence of a wide model has at most, so that a run takes seconds. */
  readonly longest?: number;
}

const yarn = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 64 };
const llama3 = {
  rope_type: "llama3",
  factor: 8,
  low_freq_factor: 1,
  high_freq_factor: 4,
  original_max_position_embeddings: 64,
};
const linear = { rope_type: "linear", factor: 3 };

const families = ["qwen3", "qwen2", "llama"] as const;

/** Three layers of 64 to 96 channels: as they are, with the weights that are hard on rounding, under each RoPE scaling. */
const small: CorrectModel[] = families.flatMap((family) => [
  { id: `${family}-small`, options: { family, seed: 31 }, share: 5 },
  { id: `${family}-heavy-tails`, options: { family, seed: 32, heavyTails: true }, share: 5 },
  { id: `${family}-large-keys`, options: { family, seed: 33, keyGain: 12 }, share: 4 },
  { id: `${family}-yarn`, options: { family, seed: 34, config: { rope_scaling: yarn } }, share: 3 },
  { id: `${family}-llama3`, options: { family, seed: 35, config: { rope_scaling: llama3 } }, share: 3 },
  { id: `${family}-linear`, options: { family, seed: 36, config: { rope_scaling: linear } }, share: 3 },
]);

/** The widths of published models, one or two layers of each. */
const wide: CorrectModel[] = [
  shape("qwen3", 256, { heads: 8, keyHeads: 2, headDim: 32, interior: 768, layers: 2 }, 4),
  shape("qwen2", 512, { heads: 8, keyHeads: 8, headDim: 64, interior: 1408, layers: 2 }, 3),
  shape("llama", 576, { heads: 9, keyHeads: 3, headDim: 64, interior: 1536, layers: 2 }, 3),
  shape("qwen3", 1024, { heads: 16, keyHeads: 8, headDim: 128, interior: 3072, layers: 1 }, 2),
  shape("llama", 2048, { heads: 32, keyHeads: 8, headDim: 64, interior: 2048, layers: 1 }, 2),
  shape("qwen3", 2560, { heads: 16, keyHeads: 4, headDim: 128, interior: 2432, layers: 1 }, 1),
  shape("llama", 4096, { heads: 16, keyHeads: 4, headDim: 128, interior: 1536, layers: 1 }, 1),
  shape("qwen3", 5120, { heads: 16, keyHeads: 2, headDim: 128, interior: 1024, layers: 1 }, 1),
];

interface Shape {
  readonly heads: number;
  readonly keyHeads: number;
  readonly headDim: number;
  readonly interior: number;
  readonly layers: number;
}

function shape(
  family: (typeof families)[number],
  width: number,
  { heads, keyHeads, headDim, interior, layers }: Shape,
  share: number,
): CorrectModel {
  const config = {
    hidden_size: width,
    intermediate_size: interior,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: keyHeads,
    head_dim: headDim,
    vocab_size: 1500,
  };
  return {
    id: `${family}-${width}`,
    options: { family, seed: width, config, heavyTails: width % 1024 === 0 },
    share,
    longest: width > 1000 ? 12 : 40,
  };
}

export const correctModels: readonly CorrectModel[] = [...small, ...wide];
