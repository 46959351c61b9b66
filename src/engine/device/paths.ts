import type { ModelConfig } from "../../spec/models/config.js";
import { allFusions, noFusions } from "../program/fusions.js";
import type { Path } from "../run/path.js";
import type { Backend } from "./backend.js";
import { DecoderPath, type PathOptions } from "./decoder-path.js";
import type { Weights } from "./weights.js";

/** The standard path: a step per op of the spec, every value in memory. */
export function standardPath(backend: Backend, config: ModelConfig, weights: Weights, options: PathOptions): Path {
  return new DecoderPath("standard", backend, config, weights, noFusions, options);
}

/**
 * The fused path: five steps a layer in decode (RMSNorm and q, k, v projections; QK-norm, RoPE, KV append and split
 * attention; merge, output projection and residual; RMSNorm, gate, up and SiLU; down and residual).
 */
export function fusedPath(backend: Backend, config: ModelConfig, weights: Weights, options: PathOptions): Path {
  return new DecoderPath("fused", backend, config, weights, allFusions, options);
}
