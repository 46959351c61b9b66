import { Tokenizer as HuggingFaceTokenizer } from "@huggingface/tokenizers";
import { InputError } from "../../tensor/errors.js";

/** Text to token ids and back, as the model's `tokenizer.json` says. */
export class Tokenizer {
  readonly #tokenizer: HuggingFaceTokenizer;

  /**
   * @param json parsed `tokenizer.json`.
   * @param config parsed `tokenizer_config.json`; {} when the model has none.
   * @throws InputError when the files describe a tokenizer that this library does not know.
   */
  constructor(json: object, config: object = {}, origin = "tokenizer.json") {
    try {
      this.#tokenizer = new HuggingFaceTokenizer(json, config);
    } catch (error) {
      throw new InputError(`${origin}: expected a Hugging Face tokenizer: ${(error as Error).message}`);
    }
  }

  /** @param special whether the tokenizer adds what its post-processor asks for, such as a begin token. */
  encode(text: string, special = true): number[] {
    return this.#tokenizer.encode(text, { add_special_tokens: special }).ids;
  }

  /** Text of token ids; special tokens such as <|endoftext|> leave none. */
  decode(ids: readonly number[]): string {
    if (ids.length === 0) return "";
    const options = { skip_special_tokens: true, clean_up_tokenization_spaces: false };
    return this.#tokenizer.decode([...ids], options);
  }

  /** Id of a token by its exact text, or undefined. */
  idOf(token: string): number | undefined {
    return this.#tokenizer.token_to_id(token);
  }
}

/** A character whose bytes are not all there yet. */
const incomplete = "\ufffd";

/** Turns tokens into text one by one, holding back characters that are spread over several tokens. */
export class TextStream {
  #ids: number[];
  /** First id of the decoded window, and first id whose text has not been given out. */
  #window: number;
  #given: number;

  /** @param context tokens before the stream, so that its first token gets the spacing it has within the text. */
  constructor(
    readonly tokenizer: Tokenizer,
    context: readonly number[] = [],
  ) {
    this.#ids = [...context];
    this.#given = this.#ids.length;
    this.#window = Math.max(0, this.#given - 8);
  }

  /** The text that `id` completes; "" while a character is unfinished. */
  push(id: number): string {
    this.#ids.push(id);
    const text = this.#pending();
    if (text.endsWith(incomplete)) return "";
    this.#window = this.#given;
    this.#given = this.#ids.length;
    return text;
  }

  /** What is left when no more tokens come. */
  end(): string {
    const text = this.#pending();
    this.#given = this.#ids.length;
    return text;
  }

  #pending(): string {
    const before = this.tokenizer.decode(this.#ids.slice(this.#window, this.#given));
    const after = this.tokenizer.decode(this.#ids.slice(this.#window));
    return after.slice(before.length);
  }
}
