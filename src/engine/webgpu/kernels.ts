import { attentionParameters } from "../device/attention-call.js";
import { batchHeader } from "../device/batch-buffer.js";
import type { Gpu } from "./gpu.js";
import type { Kernel } from "./pipelines.js";

/** The kernels by name, each with the files and structs it is made of. */

export type Constants = Readonly<Record<string, number | boolean>>;

function sums(gpu: Gpu): string {
  return gpu.features.has("subgroups") ? "sums-subgroups" : "sums";
}

const table = {
  embedding: { modules: ["elements", "weights"], blocks: [batchHeader] },
  rmsnorm: { modules: ["sums"], blocks: [] },
  gemv: { modules: ["elements", "weights", "silu", "sums"], blocks: [batchHeader] },
  gemm: { modules: ["elements", "weights", "silu", "tile"], blocks: [batchHeader] },
  "gemm-matrix": { modules: ["elements", "silu", "tile"], blocks: [batchHeader] },
  "half-rows": { modules: ["powers"], blocks: [batchHeader] },
  "weight-scales": { modules: ["elements", "powers"], blocks: [] },
  elementwise: { modules: ["silu"], blocks: [batchHeader] },
  rope: { modules: [], blocks: [batchHeader] },
  append: { modules: ["elements", "slots", "pages", "page-stores"], blocks: [batchHeader, attentionParameters] },
  "rope-append": {
    modules: ["elements", "slots", "pages", "page-stores", "sums"],
    blocks: [batchHeader, attentionParameters],
  },
  "attention-decode": {
    modules: ["elements", "slots", "pages", "page-loads", "page-stores", "scores"],
    blocks: [batchHeader, attentionParameters],
  },
  "attention-prefill": {
    modules: ["elements", "slots", "pages", "page-loads", "scores"],
    blocks: [batchHeader, attentionParameters],
  },
  "attention-merge": { modules: [], blocks: [batchHeader] },
  argmax: { modules: ["sampling"], blocks: [batchHeader] },
  "top-p": { modules: ["sampling"], blocks: [batchHeader] },
  "select-token": { modules: ["slots"], blocks: [batchHeader] },
  "read-bandwidth": { modules: [], blocks: [] },
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
