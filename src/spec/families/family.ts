import type { ModelConfig } from "../models/config.js";

/**
 * A family of decoders: what its config.json may say, and what that means. Everything else follows from the ModelConfig it
 * gives: parameters, values and their sites (models/decoder.ts), captures, the engine.
 *
 * A family is one file that extends the fields all of them share (fields.ts). What no ModelConfig field can say yet becomes
 * one, with its place in models/decoder.ts or in a branch beside this file. Layers whose feed-forward part is no gated MLP
 * give `feedForward`: a function like gatedMlp that declares values and parameters through its LayerScope, an expert's with
 * `*` for its number in the path, and returns the name of what the branch adds to the stream.
 */
export interface Family {
  /** Values of `model_type`. */
  readonly modelTypes: readonly string[];
  /** @throws InputError naming the first field that is missing, of the wrong type, or means what the spec does not know. */
  read(json: unknown, origin: string): ModelConfig;
}
