/** The engine as a library, `faultline/engine`: what only Node has is imported when it is needed, so that a page can use it too. */
export type { ParameterBytes } from "../spec/families/unpacked-parameters.js";
export { type ModelConfig, parseModelConfig } from "../spec/models/config.js";
export { type AppendRequest, appendPagedKVCache } from "./attention/append.js";
export type { AttentionPlan, PagedPlan } from "./attention/attention-plan.js";
export type { AttentionOutput } from "./attention/batch-attention.js";
export { mergeStates } from "./attention/merge.js";
export {
  BatchDecodeWithPagedKVCache,
  BatchPrefillWithPagedKVCache,
  BatchPrefillWithRaggedKVCache,
} from "./attention/wrapper.js";
export type { Backend, DeviceBuffer } from "./device/backend.js";
export type { PathOptions } from "./device/decoder-path.js";

export { fusedPath, standardPath } from "./device/paths.js";
export type { PagedCache, Tensor } from "./device/tensor.js";
export { loadWeights, randomWeights, type Weights } from "./device/weights.js";
export type { Batch } from "./run/batch.js";
export type { PageTable } from "./run/page-table.js";
export type { Path } from "./run/path.js";
export type { Sampling } from "./run/sampling.js";
export { Generation, type GenerationOptions } from "./serve/generation.js";
export { openBackend } from "./serve/open-backend.js";
export type { Request, Sequence } from "./serve/scheduler.js";
export { TextStream, Tokenizer } from "./text/tokenizer.js";
export { type DeviceOptions, openDevice } from "./webgpu/device.js";
export type { Gpu } from "./webgpu/gpu.js";
