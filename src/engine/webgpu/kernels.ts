import type { DType } from "../../tensor/dtype.js";
import type { Gpu } from "./device.js";
import { attentionParameters, batchHeader, mergeParameters } from "./parameters.js";
import type { Kernel } from "./pipelines.js";

/** The kernels by name, each with the files and structs it is made of. */

type Constants = Readonly<Record<string, number | boolean>>;

const storedFormats: Partial<Record<DType, number>> = { bfloat16: 0, float16: 1, float32: 2 };

/**
 * The number kernels know an element type by.
 * @throws Error when kernels cannot read the type.
 */
export function formatOf(dtype: DType, what: string): number {
  const format = storedFormats[dtype];
  if (format === undefined) throw new Error(`${what}: ${dtype} is not one of bfloat16, float16, float32`);
  return format;
}

function sums(gpu: Gpu): string {
  return gpu.features.has("subgroups") ? "sums-subgroups" : "sums";
}

const table = {
  embedding: { modules: ["weights"], blocks: [batchHeader] },
  rmsnorm: { modules: ["sums"], blocks: [batchHeader] },
  gemv: { modules: ["weights", "silu", "sums"], blocks: [batchHeader] },
  gemm: { modules: ["weights", "silu"], blocks: [batchHeader] },
  "gemm-matrix": { modules: ["weights", "silu"], blocks: [batchHeader] },
  "half-rows": { modules: ["powers"], blocks: [batchHeader] },
  "weight-scales": { modules: ["weights", "powers"], blocks: [] },
  elementwise: { modules: ["silu"], blocks: [batchHeader] },
  rope: { modules: [], blocks: [batchHeader] },
  append: { modules: ["weights"], blocks: [batchHeader, attentionParameters] },
  "rope-append": { modules: ["weights", "sums"], blocks: [batchHeader, attentionParameters] },
  "attention-decode": { modules: ["weights", "paged-cache"], blocks: [batchHeader, attentionParameters] },
  "attention-prefill": { modules: ["weights", "paged-cache"], blocks: [batchHeader, attentionParameters] },
  "attention-merge": { modules: [], blocks: [mergeParameters] },
  argmax: { modules: ["sampling"], blocks: [batchHeader] },
  "top-p": { modules: ["sampling"], blocks: [batchHeader] },
  "select-token": { modules: [], blocks: [batchHeader] },
  "read-bandwidth": { modules: [], blocks: [] },
  "fill-random": { modules: ["weights", "sampling"], blocks: [] },
} as const;

export type KernelName = keyof typeof table;

/** Compiles (once) the variant of a kernel that `constants` ask for. */
export function kernel(gpu: Gpu, name: KernelName, constants: Constants): Promise<Kernel> {
  const { modules, blocks } = table[name];
  return gpu.pipelines.get({
    name,
    modules: modules.map((module) => (module === "sums" ? sums(gpu) : module)),
    blocks,
    constants,
  });
}
