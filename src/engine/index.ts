/** The engine as a library, `faultline/engine`: what only Node has is imported when it is needed, so that a page can use it too. */
export { type ModelConfig, parseModelConfig } from "../spec/models/config.js";
export { type AppendRequest, appendPagedKVCache } from "./attention/append.js";
export type { AttentionPlan, PagedPlan } from "./attention/attention-plan.js";
export type { AttentionOutput } from "./attention/batch-attention.js";
export { mergeStates } from "./attention/merge.js";
export type { PagedCache, Tensor } from "./attention/tensor.js";
export type { PageTable } from "./attention/validate.js";
export {
  BatchDecodeWithPagedKVCache,
  BatchPrefillWithPagedKVCache,
  BatchPrefillWithRaggedKVCache,
} from "./attention/wrapper.js";
export { Generation, type GenerationOptions } from "./generate.js";
export type { Batch, Path, Sampling } from "./path.js";
export type { PathOptions } from "./paths/decoder.js";
export { fusedPath } from "./paths/fused.js";
export { standardPath } from "./paths/standard.js";
export type { Request, Sequence } from "./scheduler.js";
export { TextStream, Tokenizer } from "./tokenizer.js";
export { type DeviceOptions, type Gpu, openDevice } from "./webgpu/device.js";
export { loadWeights, type ParameterBytes, randomWeights, type Weights } from "./weights.js";
