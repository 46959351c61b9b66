import { decode } from "../../tensor/dtype.js";
import { InputError } from "../../tensor/errors.js";
import type { ModelParameters } from "../formats/model-parameters.js";
import type { ModelConfig } from "./config.js";
import { expectedParameters } from "./decoder.js";

/**
 * @throws InputError when the checkpoint lacks a parameter its config calls for, has one of another shape, or one that
 * begins with a row of nothing but NaN: no run can be judged by it.
 */
export function expectParameters(config: ModelConfig, checkpoint: ModelParameters): void {
  for (const [name, shape] of expectedParameters(config)) {
    const found = checkpoint.shape(name);
    if (!found)
      throw new InputError(
        `${checkpoint.directory}: the checkpoint has no parameter "${name}", which its config.json calls for`,
      );
    if (found.join() !== shape.join()) {
      throw new InputError(
        `${checkpoint.directory}: "${name}" has shape [${found.join(", ")}], its config.json calls for [${shape.join(", ")}]`,
      );
    }
    // Of a quantised one the scales were looked at when it was opened.
    if (checkpoint.quantised(name)) continue;
    if (decode(checkpoint.bytes(name, 0, 1), checkpoint.entry(name)!.dtype).every(Number.isNaN)) {
      throw new InputError(
        `${checkpoint.directory}: "${name}": expected numbers, found NaN in ${found.length < 2 ? "every element" : "every element of its first row"}`,
      );
    }
  }
}
