import { type Patch, type PatchedModel, patchModel } from "../../engine/program/patch.js";
import { generate, type Recorder } from "../../engine/serve/generation.js";
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

/**
 * Runs the engine with patches in it: the prompt recorded, then its continuation as the path generates it.
 * @param recorder gets what is recorded too.
 */
export async function runLive(source: LiveSource, patches: readonly Patch[], recorder?: Recorder): Promise<LiveRun> {
  const { engine, config, parameters, tokenIds, maxTokens, endTokens } = source;
  const model = patchModel(config, parameters, patches);
  const path = engine.path(patches);
  try {
    const values = new StepValues(model.graph);
    const request = { tokenIds, maxTokens, endTokens };
    const [generated] = await generate(path, [request], {
      recorder: recorder ? both(values, recorder) : values,
      recordedSteps: 1,
    });
    return { model, values, tokenIds: generated!.tokenIds };
  } finally {
    path.dispose();
  }
}

/** Runs the engine with patches in it and records its first steps. @returns the tokens it generates. */
export async function recordLive(
  source: LiveSource,
  patches: readonly Patch[],
  recorder: Recorder,
  recordedSteps: number,
): Promise<readonly number[]> {
  const { engine, tokenIds, maxTokens, endTokens } = source;
  const path = engine.path(patches);
  try {
    const request = { tokenIds, maxTokens, endTokens };
    const [generated] = await generate(path, [request], { recorder, recordedSteps });
    return generated!.tokenIds;
  } finally {
    path.dispose();
  }
}

function both(one: Recorder, other: Recorder): Recorder {
  return {
    wants: (name) => one.wants(name) || other.wants(name),
    begin(batch) {
      one.begin(batch);
      other.begin(batch);
    },
    value(value) {
      if (one.wants(value.name)) one.value(value);
      if (other.wants(value.name)) other.value(value);
    },
    end(result, greedy) {
      one.end(result, greedy);
      other.end(result, greedy);
    },
  };
}
