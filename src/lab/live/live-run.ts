import { type Patch, type PatchedModel, patchModel } from "../../engine/program/patch.js";
import { generate } from "../../engine/serve/generation.js";
import type { OpenedEngine } from "../../engine/serve/open-path.js";
import type { ModelConfig } from "../../spec/models/config.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import { StepValues } from "./step-values.js";

/** An engine, the model it runs and what it is given. */
export interface LiveSource {
  readonly engine: OpenedEngine;
  readonly config: ModelConfig;
  readonly parameters: ParameterReader;
  /** The prompt. */
  readonly tokenIds: readonly number[];
  readonly maxTokens: number;
  readonly endTokens: readonly number[];
}

/** One run of the engine with patches in it. */
export interface LiveRun {
  readonly model: PatchedModel;
  /** Of the first step, which computes the prompt. */
  readonly values: StepValues;
  /** Greedy continuation. */
  readonly tokenIds: readonly number[];
}

/** Runs the engine with patches in it: the prompt recorded, then its continuation as the path generates it. */
export async function runLive(source: LiveSource, patches: readonly Patch[]): Promise<LiveRun> {
  const { engine, config, parameters, tokenIds, maxTokens, endTokens } = source;
  const model = patchModel(config, parameters, patches);
  const path = engine.path(patches);
  try {
    const values = new StepValues(model.graph);
    const request = { tokenIds, maxTokens, endTokens };
    const [generated] = await generate(path, [request], { recorder: values, recordedSteps: 1 });
    return { model, values, tokenIds: generated!.tokenIds };
  } finally {
    path.dispose();
  }
}
