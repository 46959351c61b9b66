import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { ModelConfig } from "../../spec/models/config.js";
import { InputError } from "../../tensor/errors.js";
import { parseJson } from "../../tensor/json.js";
import { ChatTemplate } from "./chat.js";
import { Tokenizer } from "./tokenizer.js";

/** Reads `tokenizer.json` and `tokenizer_config.json` of a model folder. @throws InputError when they cannot be used. */
export function readTokenizer(directory: string): Tokenizer {
  const path = join(directory, "tokenizer.json");
  const json = readJson(path);
  if (!json) throw new InputError(`${path}: expected the model's tokenizer, but it cannot be read`);
  return new Tokenizer(json, readJson(join(directory, "tokenizer_config.json")) ?? {}, path);
}

/** A parsed JSON file, or undefined when there is none. @throws InputError when it is no JSON object. */
export function readJson(path: string): Record<string, unknown> | undefined {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
  const json = parseJson(text, path);
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw new InputError(`${path}: expected a JSON object`);
  return json as Record<string, unknown>;
}

/**
 * The chat template of a model folder: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json` (a string,
 * or a list of named ones, of which "default" is taken).
 * @throws InputError when the model has none.
 */
export function readChatTemplate(directory: string): ChatTemplate {
  const configPath = join(directory, "tokenizer_config.json");
  const config = readJson(configPath) ?? {};
  const path = join(directory, "chat_template.jinja");
  try {
    return new ChatTemplate(readFileSync(path, "utf8"), config, path);
  } catch (error) {
    if (error instanceof InputError) throw error;
  }
  const source = defaultTemplate(config.chat_template);
  if (source === undefined)
    throw new InputError(`${configPath}: chat_template: expected one for --chat; this model has none`);
  return new ChatTemplate(source, config, configPath);
}

function defaultTemplate(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return undefined;
  const named = value as { name?: unknown; template?: unknown }[];
  const chosen = named.find(({ name }) => name === "default") ?? named[0];
  return typeof chosen?.template === "string" ? chosen.template : undefined;
}

/** End tokens of `config.json` and of `generation_config.json`, which may have more. */
export function readEndTokens(directory: string, config: ModelConfig): number[] {
  const more = readJson(join(directory, "generation_config.json"))?.eos_token_id;
  const ids = [more].flat().filter((id): id is number => typeof id === "number");
  return [...new Set([...config.endTokens, ...ids])];
}
