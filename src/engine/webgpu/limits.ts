import type { ModelConfig } from "../../spec/models/config.js";
import { InputError } from "../../tensor/errors.js";

/** Kernels load eight channels at a time and rotate eight pairs. @throws InputError when a width does not allow it. */
export function requireModel(config: ModelConfig): void {
  const widths = { hidden_size: config.hiddenSize, intermediate_size: config.intermediateSize };
  for (const [name, width] of Object.entries(widths)) {
    if (width % 8 !== 0) throw new InputError(`the GPU paths need ${name} to be a multiple of 8, found ${width}`);
  }
  if (config.headDim % 8 !== 0 || config.headDim > 256) {
    throw new InputError(`the GPU paths need head_dim to be a multiple of 8 up to 256, found ${config.headDim}`);
  }
  const group = config.headCount / config.keyValueHeadCount;
  if (group > 16) throw new InputError(`the GPU paths need at most 16 query heads per KV head, found ${group}`);
  if (config.activation !== "silu") {
    throw new InputError(`the GPU paths have the activation silu, the model asks for ${config.activation}`);
  }
}
