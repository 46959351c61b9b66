import { wideShapes } from "../../spec/families/shapes.js";
import { type TinyModelOptions, tinyFamilies } from "../tiny-model.js";

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

/** Three layers of 64 to 96 channels: as they are, with the weights that are hard on rounding, under each RoPE scaling. */
const small: CorrectModel[] = tinyFamilies.flatMap((family) => [
  { id: `${family}-small`, options: { family, seed: 31 }, share: 5 },
  { id: `${family}-heavy-tails`, options: { family, seed: 32, heavyTails: true }, share: 5 },
  { id: `${family}-large-keys`, options: { family, seed: 33, keyGain: 12 }, share: 4 },
  { id: `${family}-yarn`, options: { family, seed: 34, config: { rope_scaling: yarn } }, share: 3 },
  { id: `${family}-llama3`, options: { family, seed: 35, config: { rope_scaling: llama3 } }, share: 3 },
  { id: `${family}-linear`, options: { family, seed: 36, config: { rope_scaling: linear } }, share: 3 },
]);

/** Runs of each per round: a run of a wide model takes seconds. */
const shares = [4, 3, 3, 2, 2, 1, 1, 1];

/** The widths of published models, one or two layers of each. */
const wide = wideShapes.map(({ family, width, heads, keyHeads, headDim, interior, layers }, i): CorrectModel => {
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
    share: shares[i]!,
    longest: width > 1000 ? 12 : 40,
  };
});

export const correctModels: readonly CorrectModel[] = [...small, ...wide];
