import type { Detokenize } from "../diagnose/prove/free-run.js";
import { readTokenizer } from "../engine/text/model-folder.js";
import { InputError } from "../tensor/errors.js";

/** Decodes token ids with the model's own tokenizer; null when the folder has none that can be read. */
export function detokenizer(model: string): Detokenize {
  try {
    const tokenizer = readTokenizer(model);
    return (tokens) => tokenizer.decode(tokens);
  } catch (error) {
    if (error instanceof InputError) return null;
    throw error;
  }
}
