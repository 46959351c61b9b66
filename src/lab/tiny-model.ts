import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { smallShapes } from "../spec/families/shapes.js";
import { type ModelConfig, parseModelConfig } from "../spec/models/config.js";
import { expectedParameters } from "../spec/models/decoder.js";
import { encode } from "../tensor/dtype.js";
import { writeSafetensors } from "../tensor/safetensors.js";
import { type LabModel, openLabModel } from "./model.js";
import { gaussian, randomGenerator } from "./random.js";

/** Families that a small model can be drawn of. */
export const tinyFamilies: readonly string[] = Object.keys(smallShapes);

export interface TinyModelOptions {
  /** One of `smallShapes`; the first unless given. */
  readonly family?: string;
  readonly seed?: number;
  /** Equal norm weights hide norm order and norm exchanges; trained models never have them. */
  readonly uniformNorms?: boolean;
  /** Weights with a few far larger than the rest (Student's t, 3 degrees of freedom) where normal ones would be. */
  readonly heavyTails?: boolean;
  /** Multiplies keys: their norm weight, or k_proj where there is none. Trained models have norms of keys near 100. */
  readonly keyGain?: number;
  /** Fields of config.json to change. */
  readonly config?: Record<string, unknown>;
}

/**
 * Writes a small random decoder (GQA 6/2, head_dim 16) as a Hugging Face model folder at `directory`: weights with the
 * falling spectrum, the unequal norm weights and the outlier channels of trained ones.
 */
export function writeTinyModel(directory: string, options: TinyModelOptions = {}): LabModel {
  const json = { ...smallShapes[options.family ?? tinyFamilies[0]!], ...options.config };
  const config = parseModelConfig(json, join(directory, "config.json"));
  const random = randomGenerator((options.seed ?? 1) * 7919);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "config.json"), JSON.stringify(json));
  const tensors = [...expectedParameters(config)].map(([name, shape]) => {
    const values =
      shape.length === 1 ? vector(name, shape[0]!, random, options) : matrix(name, shape, random, config, options);
    return { name, dtype: "bfloat16" as const, shape, bytes: encode(values, "bfloat16") };
  });
  writeSafetensors(join(directory, "model.safetensors"), tensors);
  return openLabModel(directory);
}

function vector(name: string, size: number, random: () => number, options: TinyModelOptions): Float64Array {
  const { uniformNorms, keyGain = 1 } = options;
  const bias = name.endsWith(".bias");
  return Float64Array.from({ length: size }, () => {
    const outlier = random() < 0.05 ? 6 : 1;
    const draw = gaussian(random);
    if (bias) return 0.5 * draw * outlier;
    const gain = name.endsWith("k_norm.weight") ? keyGain : 1;
    return gain * (uniformNorms ? 1.5 : Math.exp(0.5 * draw) * outlier);
  });
}

/** Student's t with 3 degrees of freedom, scaled to unit variance. */
function studentT3(random: () => number): number {
  const chi = gaussian(random) ** 2 + gaussian(random) ** 2 + gaussian(random) ** 2;
  return gaussian(random) / Math.sqrt(chi);
}

/** Independent noise and a few strong directions whose strength falls as a power law. */
function matrix(
  name: string,
  shape: readonly number[],
  random: () => number,
  { queryKeyNorm }: ModelConfig,
  { heavyTails, keyGain = 1 }: TinyModelOptions,
): Float64Array {
  const [rows, columns] = shape as [number, number];
  const gain = !queryKeyNorm && name.endsWith("k_proj.weight") ? keyGain : 1;
  const scale = name.includes("embed") ? 0.06 : (0.7 * gain) / Math.sqrt(columns);
  const draw = heavyTails ? () => studentT3(random) : () => gaussian(random);
  const values = new Float64Array(rows * columns);
  for (let i = 0; i < values.length; i++) values[i] = scale * draw();
  const rank = 6;
  for (let k = 1; k <= rank; k++) {
    const left = Float64Array.from({ length: rows }, () => gaussian(random));
    const right = Float64Array.from({ length: columns }, () => gaussian(random));
    const strength = (scale * 1.2) / k;
    for (let r = 0; r < rows; r++) {
      for (let c = 0; c < columns; c++) values[r * columns + c]! += strength * left[r]! * right[c]!;
    }
  }
  return values;
}
