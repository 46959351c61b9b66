import { type AttentionName, openEngine, type PathName } from "../engine/serve/open-path.js";
import { readEndTokens, readTokenizer } from "../engine/text/model-folder.js";
import type { Tokenizer } from "../engine/text/tokenizer.js";
import type { LiveSource } from "../lab/live/live-run.js";
import type { Arithmetic } from "../spec/arithmetic.js";
import { ModelParameters } from "../spec/formats/model-parameters.js";
import { readModelConfig } from "../spec/models/config-file.js";
import { InputError } from "../tensor/errors.js";

export interface LiveModelOptions {
  readonly model: string;
  readonly path: PathName;
  readonly prompt: string;
  readonly maxTokens: number;
  readonly adapter?: string | undefined;
  readonly attention?: AttentionName | undefined;
  /** How the reference path sums; exactly, unless given. */
  readonly arithmetic?: Arithmetic | undefined;
}

/** A model that runs on one path, with the prompt that it continues. */
export interface LiveModel extends LiveSource {
  /** Parsed `config.json`. */
  readonly json: Record<string, unknown>;
  readonly tokenizer: Tokenizer;
}

const pageSize = 16;

/**
 * Opens a model's engine and hands it on while it is open.
 * @throws InputError when the model cannot be read or run, or the prompt does not fit it.
 */
export async function withLiveModel<T>(options: LiveModelOptions, use: (live: LiveModel) => Promise<T>): Promise<T> {
  const { model, path, prompt, maxTokens, adapter, attention, arithmetic } = options;
  const { config, json } = readModelConfig(model);
  const parameters = new ModelParameters(model);
  try {
    const tokenizer = readTokenizer(model);
    const tokenIds = tokenizer.encode(prompt);
    const positions = tokenIds.length + maxTokens;
    if (tokenIds.length === 0) throw new InputError("--prompt: expected text that makes at least one token");
    if (positions > config.maxPositions)
      throw new InputError(
        `--prompt: ${tokenIds.length} tokens and ${maxTokens} more are ${positions} positions, the model has ${config.maxPositions}`,
      );
    const unknown = tokenIds.find((token) => token >= config.vocabularySize);
    if (unknown !== undefined)
      throw new InputError(
        `${model}: its tokenizer gives token ${unknown}, config.json has a vocabulary of ${config.vocabularySize}`,
      );
    const pageCount = Math.ceil(positions / pageSize) + 1;
    const device = { adapter, attention, arithmetic };
    const engine = await openEngine(path, { config, checkpoint: parameters, pageCount, pageSize, ...device });
    try {
      const endTokens = readEndTokens(model, config);
      return await use({ engine, config, json, parameters, tokenizer, tokenIds, maxTokens, endTokens });
    } finally {
      engine.close();
    }
  } finally {
    parameters.close();
  }
}
