import type { ParameterBytes } from "../../src/engine/device/parameter-source.js";
import { parseModelConfig } from "../../src/spec/models/config.js";
import { expectedParameters } from "../../src/spec/models/decoder.js";
import type { ParameterReader } from "../../src/tensor/checkpoint.js";
import { encode } from "../../src/tensor/dtype.js";
import { normals, randomNumbers } from "./gpu.js";

/** A Qwen3 of two layers with 97 words, for tests that run many steps. */
export const tinyConfigJson = {
  model_type: "qwen3",
  hidden_size: 32,
  intermediate_size: 48,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 16,
  vocab_size: 97,
  max_position_embeddings: 512,
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  tie_word_embeddings: false,
  attention_bias: false,
};

export const tinyConfig = parseModelConfig(tinyConfigJson, "tiny");

/** Random parameters, large enough that every part of the model moves the next token. */
export function tinyParameters(seed = 1): ParameterReader {
  const shapes = expectedParameters(tinyConfig);
  const random = randomNumbers(seed);
  const values = new Map<string, Float64Array>();
  for (const [name, shape] of shapes) {
    const count = shape.reduce((product, n) => product * n, 1);
    const spread = shape.length === 1 ? 0.2 : 1.5 / Math.sqrt(shape[1]!);
    const offset = shape.length === 1 ? 1 : 0;
    values.set(
      name,
      Float64Array.from(normals(random, count, spread), (value) => offset + value),
    );
  }
  return {
    shape: (name) => shapes.get(name),
    names: () => shapes.keys(),
    rows(name, first, count) {
      const shape = shapes.get(name)!;
      const columns = shape.length === 1 ? shape[0]! : shape[1]!;
      return values.get(name)!.subarray(first * columns, (first + count) * columns);
    },
  };
}

/** The same parameters as a checkpoint in float32 holds them. */
export function tinyBytes(parameters: ParameterReader): ParameterBytes {
  const shapeOf = (name: string) => parameters.shape(name)!;
  return {
    directory: "tiny",
    entry: (name) => ({ name, dtype: "float32", shape: shapeOf(name), start: 0, byteLength: 0 }),
    bytes(name, first = 0, count = shapeOf(name).length === 1 ? 1 : shapeOf(name)[0]!) {
      return encode(parameters.rows(name, first, count), "float32");
    },
  };
}

/** A prompt of random words. */
export function tinyPrompt(length: number, seed: number): number[] {
  const random = randomNumbers(seed);
  return Array.from({ length }, () => Math.floor(random() * tinyConfig.vocabularySize));
}
