import { Template } from "@huggingface/jinja";
import { InputError } from "../../tensor/errors.js";

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
