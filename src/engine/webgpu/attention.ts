import type { AppendCall, AttentionCall, HeadRows, MergeCall } from "../device/attention-call.js";
import { packAddressing } from "../device/attention-call.js";
import type { BatchBuffer } from "../device/batch-buffer.js";
import { formatOf } from "../device/element-format.js";
import type { CacheView } from "../device/tensor.js";
import type { Dispatch } from "./dispatch.js";
import type { Gpu } from "./gpu.js";
import { type Constants, kernel } from "./kernels.js";
import type { Operand } from "./pipelines.js";

/** Where the decode kernel leaves normalised states, [rows, heads, splits, head_dim], and their base-2 log-sum-exp. */
export interface StateBuffers {
  readonly states: Operand;
  readonly lse: Operand;
}

export interface AttentionLaunch extends Omit<AttentionCall, "shape" | "mask"> {
  readonly label: string;
  /** AttentionParameters of the call. */
  readonly addressing: Operand;
  /** Of decode alone. */
  readonly states: StateBuffers;
  /** Whether states are merged into `output`. */
  readonly merge: boolean;
  /** What the decode kernel does before it attends. */
  readonly prologue?: { readonly constants: Constants; readonly operands: Readonly<Record<string, Operand>> };
}

/** The one way attention is launched: split-KV for one row per sequence, tiles of query rows otherwise. */
export async function attentionDispatches(gpu: Gpu, launch: AttentionLaunch): Promise<Dispatch[]> {
  const { label, batch, heads, kvHeads, headDim, query, cache, pageSize, states } = launch;
  const constants = {
    GROUP: heads / kvHeads,
    HEAD_DIM: headDim,
    QUERY_FORMAT: formatOf(query.dtype, "q"),
    CACHE_FORMAT: formatOf(cache.keys.dtype, "paged K"),
    PAGED: pageSize !== undefined,
    PAGE_SIZE: pageSize ?? 1,
  };
  const operands = {
    header: batch.header,
    addressing: launch.addressing,
    batch: batch.arrays,
    query: query.buffer,
    keys: cache.keys.buffer,
    values: cache.values.buffer,
  };
  const { output, lse } = launch;
  if (!launch.decode) {
    const prefill = await kernel(gpu, "attention-prefill", constants);
    const group = prefill.bind({ ...operands, output, lse });
    return [{ label, kernel: prefill, group, grid: (shape) => [heads, shape.tileCount, 1] }];
  }
  const decode = await kernel(gpu, "attention-decode", { ...constants, ...launch.prologue?.constants });
  const left = { output: states.states, lse: states.lse };
  const dispatch: Dispatch = {
    label,
    kernel: decode,
    group: decode.bind({ ...operands, ...launch.prologue?.operands, ...left }),
    grid: (shape) => [shape.splitCount, kvHeads, shape.sequences],
  };
  if (!launch.merge) return [dispatch];
  const merge = await kernel(gpu, "attention-merge", { HEAD_DIM: headDim });
  const merged = { header: batch.header, input: states.states, input_lse: states.lse, output, lse };
  return [
    dispatch,
    { label: "merge", kernel: merge, group: merge.bind(merged), grid: (shape) => [heads, shape.rows, 1] },
  ];
}

export interface AppendLaunch {
  readonly label: string;
  readonly batch: BatchBuffer;
  readonly addressing: Operand;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly input: HeadRows;
  readonly cache: CacheView["keys"];
  readonly holds: "keys" | "values";
}

/** Rows of K, or of V, into the slots of a paged cache. */
export async function appendDispatch(gpu: Gpu, launch: AppendLaunch): Promise<Dispatch> {
  const { label, batch, addressing, kvHeads, headDim, input, cache, holds } = launch;
  const append = await kernel(gpu, "append", {
    HEADS: kvHeads,
    HEAD_DIM: headDim,
    INPUT_STRIDE: input.rowStride,
    INPUT_HEAD_STRIDE: input.headStride,
    INPUT_OFFSET: input.offset,
    CACHE_FORMAT: formatOf(cache.dtype, "cache"),
    VALUES: holds === "values",
  });
  const operands = { header: batch.header, addressing, input: input.buffer, batch: batch.arrays };
  return {
    label,
    kernel: append,
    group: append.bind({ ...operands, [holds]: cache.buffer }),
    grid: (shape) => [Math.ceil((kvHeads * headDim) / 8 / 64), shape.rows, 1],
  };
}

/** A call of FlashInfer's attention, with memory of its own for states. */
export async function attend(gpu: Gpu, call: AttentionCall): Promise<void> {
  const { batch, shape, heads, headDim } = call;
  const addressing = gpu.upload("addressing", packAddressing(call.cache, call.query, call.mask), "parameters");
  const count = call.decode ? shape.rows * heads * shape.splitCount : 0;
  const states = gpu.buffer("states", count * headDim * 4);
  const lse = gpu.buffer("state lse", count * 4);
  const launch = { ...call, batch, label: "attention", addressing, states: { states, lse }, merge: call.decode };
  gpu.run(await attentionDispatches(gpu, launch), shape);
  for (const buffer of [addressing, states, lse]) buffer.destroy();
}

/** A call of FlashInfer's append. */
export async function append(gpu: Gpu, call: AppendCall): Promise<void> {
  const { key, value, cache, shape } = call;
  const addressing = gpu.upload("addressing", packAddressing(cache), "parameters");
  const shared = { ...call, addressing, label: "append" };
  const keys = await appendDispatch(gpu, { ...shared, input: key, cache: cache.keys, holds: "keys" });
  const values = await appendDispatch(gpu, { ...shared, input: value, cache: cache.values, holds: "values" });
  gpu.run([keys, values], shape);
  addressing.destroy();
}

/** A call of FlashInfer's merge_states. */
export async function merge(gpu: Gpu, call: MergeCall): Promise<void> {
  const { rows, states, heads, headDim, input, inputLse, output, lse } = call;
  const program = await kernel(gpu, "attention-merge", { HEAD_DIM: headDim, COUNT: states, HEADS_LAST: true });
  const group = program.bind({ input, input_lse: inputLse, output, lse });
  const shape = { rows, sequences: rows, splitCount: states, tileCount: 0 };
  gpu.run([{ label: "merge", kernel: program, group, grid: () => [heads, rows, 1] }], shape);
}
