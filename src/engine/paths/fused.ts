import type { ModelConfig } from "../../spec/models/config.js";
import type { Path } from "../path.js";
import type { Gpu } from "../webgpu/device.js";
import type { Weights } from "../weights.js";
import { DecoderPath, type PathOptions } from "./decoder.js";
import { allFusions } from "./fusions.js";

/**
 * The fused path: five dispatches a layer in decode (RMSNorm and q, k, v projections; QK-norm, RoPE, KV append and
 * split attention; merge, output projection and residual; RMSNorm, gate, up and SiLU; down and residual).
 */
export function fusedPath(gpu: Gpu, config: ModelConfig, weights: Weights, options: PathOptions): Path {
  return new DecoderPath("fused", gpu, config, weights, allFusions, options);
}
