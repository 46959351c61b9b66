import { readFileSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../../tensor/errors.js";
import { type ModelConfig, parseModelConfig } from "./config.js";

/** Reads `config.json` of a model folder. @throws InputError when it is missing or malformed. */
export function readModelConfig(directory: string): { config: ModelConfig; json: Record<string, unknown> } {
  const path = join(directory, "config.json");
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new InputError(`${path}: expected the model's config.json, but it cannot be read`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new InputError(`${path}: expected JSON`);
  }
  return { config: parseModelConfig(json, path), json: json as Record<string, unknown> };
}
