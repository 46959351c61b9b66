import type { ModelConfig } from "../../spec/models/config.js";
import type { Path } from "../path.js";
import type { Gpu } from "../webgpu/device.js";
import type { Weights } from "../weights.js";
import { DecoderPath, type PathOptions } from "./decoder.js";
import { noFusions } from "./fusions.js";

/** The standard path: a dispatch per op of the spec, every value in memory. */
export function standardPath(gpu: Gpu, config: ModelConfig, weights: Weights, options: PathOptions): Path {
  return new DecoderPath("standard", gpu, config, weights, noFusions, options);
}
