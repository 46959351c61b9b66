import { readFileSync } from "node:fs";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { Checkpoint } from "../../src/tensor/checkpoint.js";

/** The small model of this repository and what Hugging Face generates with it. */
export const modelDirectory = "models/ishmael-7m";

export function openIshmael() {
  const { config, json } = readModelConfig(modelDirectory);
  return { config, json, parameters: new Checkpoint(modelDirectory) };
}

export interface GoldenGeneration {
  readonly prompt: string;
  readonly prompt_ids: number[];
  /** 48 tokens of greedy decoding in float32. */
  readonly greedy_ids: number[];
  /** Distance between the two best logits at each step. */
  readonly top2_margin: number[];
  readonly text: string;
}

export function goldenGenerations(): GoldenGeneration[] {
  return JSON.parse(readFileSync("test/golden/hf_greedy_fp32.json", "utf8")).generations;
}

/** Steps of a golden generation that must be reproduced: all before the first whose margin is under 0.02. */
export function certainSteps({ top2_margin: margins }: GoldenGeneration): number {
  const doubtful = margins.findIndex((margin) => margin < 0.02);
  return doubtful < 0 ? margins.length : doubtful;
}
