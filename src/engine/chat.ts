import { readFileSync } from "node:fs";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { InputError } from "../tensor/errors.js";
import { readJson } from "./tokenizer.js";

export interface Message {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** The model's chat template: how a conversation becomes the text it was trained on. */
export class ChatTemplate {
  readonly #template: Template;
  readonly #tokens: Record<string, string>;

  /**
   * @param source Jinja text.
   * @param config parsed `tokenizer_config.json`: the template may use its special tokens.
   * @throws InputError when the text is no Jinja template.
   */
  constructor(
    source: string,
    config: Record<string, unknown>,
    readonly origin: string,
  ) {
    try {
      this.#template = new Template(source);
    } catch (error) {
      throw new InputError(`${origin}: chat_template: ${(error as Error).message}`);
    }
    this.#tokens = specialTokens(config);
  }

  /** The conversation as text that ends where the model's answer begins; it holds its special tokens already. */
  render(messages: readonly Message[]): string {
    try {
      return this.#template.render({ ...this.#tokens, messages, add_generation_prompt: true });
    } catch (error) {
      throw new InputError(`${this.origin}: chat_template: ${(error as Error).message}`);
    }
  }
}

/** bos_token, eos_token, … as strings; the file may write them as objects with `content`. */
function specialTokens(config: Record<string, unknown>): Record<string, string> {
  const tokens: Record<string, string> = {};
  for (const [key, value] of Object.entries(config)) {
    const content = typeof value === "object" && value !== null ? (value as { content?: unknown }).content : value;
    if (key.endsWith("_token") && typeof content === "string") tokens[key] = content;
  }
  return tokens;
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
