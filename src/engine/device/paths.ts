import type { ModelConfig } from "../../spec/models/config.js";
import { allFusions, noFusions } from "../program/fusions.js";
import type { PatchedModel } from "../program/patch.js";
import type { Path } from "../run/path.js";
import type { Backend } from "./backend.js";
import { DecoderPath, type PathOptions } from "./decoder-path.js";
import type { Weights } from "./weights.js";

/** The standard path: a step per op of the spec, every value in memory. */
export function standardPath(backend: Backend, config: ModelConfig, weights: Weights, options: PathOptions): Path {
  return new DecoderPath("standard", backend, config, weights, noFusions, options);
}

/** Either of the two with patches in it; the weights stay the caller's, what the patches change of them is the path's. */
export function patchedPath(
  name: "standard" | "fused",
  backend: Backend,
  model: PatchedModel,
  weights: Weights,
  options: PathOptions,
): Path {
  const { config, graph, parameters, changed, added, onHost, without } = model;
  const held = weights.with(changed, added);
  const left = Object.fromEntries([...without].map((fusion) => [fusion, false]));
  const fusions = name === "fused" ? { ...allFusions, ...left } : noFusions;
  const rewritten = { graph, parameters, onHost, release: () => held.destroy() };
  return new DecoderPath(name, backend, config, held, fusions, { ...options, rewritten });
}

/**
 * The fused path: five steps a layer in decode (RMSNorm and q, k, v projections; QK-norm, RoPE, KV append and split
 * attention; merge, output projection and residual; RMSNorm, gate, up and SiLU; down and residual).
 */
export function fusedPath(backend: Backend, config: ModelConfig, weights: Weights, options: PathOptions): Path {
  return new DecoderPath("fused", backend, config, weights, allFusions, options);
}
