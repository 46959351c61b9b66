import {
  type AppendCall,
  type AttentionCall,
  type HeadRows,
  type MergeCall,
  packAddressing,
} from "../device/attention-call.js";
import type { DeviceBuffer } from "../device/backend.js";
import type { BatchBuffer, BatchShape } from "../device/batch-buffer.js";
import { formatOf } from "../device/element-format.js";
import type { CacheView } from "../device/tensor.js";
import type { Cuda } from "./cuda.js";
import type { CudaLaunch } from "./launch.js";
import type { Modules } from "./modules.js";
import { narrowTypeOf } from "./narrow-copies.js";
import { launch } from "./step-context.js";
import { type NarrowType, tensorHeads } from "./tensor-blocks.js";

/** What the decode kernel does before it attends: QK-norm and RoPE of packed rows, and the append. */
export interface AttentionPrologue {
  readonly gains: DeviceBuffer | null;
  readonly angles: DeviceBuffer;
  readonly epsilon: number;
  /** Where k and v begin in a packed row. */
  readonly keyColumn: number;
  readonly valueColumn: number;
  /** Where rotated q and k are left for a capture. */
  readonly rotated: DeviceBuffer | null;
  readonly rotatedKeys: DeviceBuffer | null;
}

export interface AttentionLaunch extends Omit<AttentionCall, "shape" | "output"> {
  /** Null where prefill on tensor cores leaves a narrow result alone. */
  readonly output: DeviceBuffer | null;
  readonly label: string;
  /** Where decode leaves states that are to be merged; where there are none, it leaves the output. */
  readonly states: { readonly states: DeviceBuffer; readonly lse: DeviceBuffer } | undefined;
  /** Tiles of query rows that there are at least. */
  readonly leastTiles: number;
  /** Whether states are merged into `output`. */
  readonly merge: boolean;
  /** Where prefill on tensor cores leaves its result in the cache's type as well. */
  readonly narrow?: DeviceBuffer | undefined;
  readonly prologue?: AttentionPrologue;
}

/**
 * The one way attention is launched: split-KV for one row per sequence; otherwise tiles of query rows on tensor cores, or one
 * by one over a cache of float32.
 */
export function attentionLaunches(modules: Modules, call: AttentionLaunch): CudaLaunch[] {
  const narrow = narrowTypeOf(call.cache.keys.dtype);
  if (!call.decode && narrow) return [tensorAttention(modules, call, narrow)];
  const { label, batch, heads, kvHeads, headDim, query, cache, pageSize, mask, prologue, states, output, lse } = call;
  const group = heads / kvHeads;
  // Lanes of a key, eight channels each, and heads that share it: a larger group takes several blocks.
  const lanes = Math.max(8, 2 ** Math.ceil(Math.log2(headDim / 8)));
  const shared = group >= 3 ? 4 : 2;
  const parts = Math.ceil(group / shared);
  const left = states ?? { states: output, lse };
  const values = {
    addressing: packAddressing(cache, query, mask),
    header: batch.header,
    batch: batch.arrays,
    query: query.buffer,
    keys: cache.keys.buffer,
    values: cache.values.buffer,
    output: call.decode ? left.states : output,
    lse: call.decode ? left.lse : lse,
    gains: prologue?.gains ?? null,
    angles: prologue?.angles ?? null,
    rotated: prologue?.rotated ?? null,
    rotatedKeys: prologue?.rotatedKeys ?? null,
    group,
    headDim,
    queryFormat: formatOf(query.dtype, "q"),
    cacheFormat: formatOf(cache.keys.dtype, "paged K"),
    pageSize: pageSize ?? 0,
    keyColumn: prologue?.keyColumn ?? 0,
    valueColumn: prologue?.valueColumn ?? 0,
    epsilon: prologue?.epsilon ?? 0,
  };
  const variant = `${lanes}_${shared}`;
  const across = kvHeads * parts;
  if (!call.decode) {
    return [launch(modules, label, "attention-prefill", values, ({ tileCount }) => [across, tileCount, 1], variant)];
  }
  const decode = launch(
    modules,
    label,
    "attention-decode",
    values,
    ({ splitCount, sequences }) => [splitCount, across, sequences],
    `${cache.keys.dtype === "float32" ? 32 : 16}_${variant}`,
  );
  if (!states || !call.merge) return [decode];
  const merged = { header: batch.header, input: states.states, inputLse: states.lse, output, lse };
  const merging = { ...merged, headDim, states: 0, headsLast: 0 };
  return [decode, launch(modules, "merge", "attention-merge", merging, ({ rows }) => [heads, rows, 1])];
}

/** Rounds of blocks of two heads from which on fewer of them, which read keys half as often, are through first. */
const sharedRounds = 3;

function tensorAttention(modules: Modules, call: AttentionLaunch, dtype: NarrowType): CudaLaunch {
  const { batch, heads, kvHeads, headDim, query, cache, mask, output, lse } = call;
  const group = heads / kvHeads;
  const fitting = tensorHeads.filter(({ channels }) => channels >= headDim);
  const most = fitting.find(({ channels, shared }) => channels === fitting[0]!.channels && shared > 1);
  const busy = modules.multiprocessors * sharedRounds;
  const shares = most && group > 1 && call.leastTiles * kvHeads * Math.ceil(group / most.shared) >= busy;
  const { variant, shared } = shares ? most : fitting[0]!;
  const values = {
    addressing: packAddressing(cache, query, mask),
    header: batch.header,
    batch: batch.arrays,
    query: query.buffer,
    keys: cache.keys.buffer,
    values: cache.values.buffer,
    output,
    narrow: call.narrow ?? null,
    lse,
    group,
    headDim,
    queryFormat: formatOf(query.dtype, "q"),
    pageSize: call.pageSize ?? 0,
  };
  const across = kvHeads * Math.ceil(group / shared);
  const grid = ({ tileCount }: BatchShape) => [across, tileCount, 1] as const;
  return launch(modules, call.label, "attention-tensor", values, grid, `${dtype}_${variant}`);
}

export interface AppendLaunch {
  readonly label: string;
  readonly batch: BatchBuffer;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly input: HeadRows;
  readonly cache: CacheView;
  readonly holds: "keys" | "values";
}

/** Rows of K, or of V, into the slots of a paged cache. */
export function appendLaunch(modules: Modules, call: AppendLaunch): CudaLaunch {
  const { label, batch, kvHeads, headDim, input, cache, holds } = call;
  const { buffer, dtype } = cache[holds];
  const values = {
    addressing: packAddressing(cache),
    header: batch.header,
    batch: batch.arrays,
    input: input.buffer,
    cache: buffer,
    heads: kvHeads,
    headDim,
    inputStride: input.rowStride,
    inputHeadStride: input.headStride,
    inputOffset: input.offset,
    format: formatOf(dtype, "cache"),
    holdsValues: holds === "values" ? 1 : 0,
  };
  const across = Math.ceil((kvHeads * headDim) / 8 / 64);
  return launch(modules, label, "append", values, ({ rows }) => [across, rows, 1]);
}

/** A call of FlashInfer's attention, with memory of its own for states. */
export function attend(cuda: Cuda, call: AttentionCall): void {
  const { shape, heads, headDim } = call;
  const count = call.decode ? shape.rows * heads * shape.splitCount : 0;
  const states = cuda.buffer("states", count * headDim * 4);
  const lse = cuda.buffer("state lse", count * 4);
  cuda.run(
    attentionLaunches(cuda.modules, {
      ...call,
      label: "attention",
      leastTiles: shape.tileCount,
      states: { states, lse },
      merge: call.decode,
    }),
    shape,
  );
  for (const buffer of [states, lse]) buffer.destroy();
}

/** A call of FlashInfer's append. */
export function append(cuda: Cuda, call: AppendCall): void {
  const { key, value, shape } = call;
  const shared = { ...call, label: "append" };
  const keys = appendLaunch(cuda.modules, { ...shared, input: key, holds: "keys" });
  const values = appendLaunch(cuda.modules, { ...shared, input: value, holds: "values" });
  cuda.run([keys, values], shape);
}

/** A call of FlashInfer's merge_states. */
export function merge(cuda: Cuda, call: MergeCall): void {
  const { rows, states, heads, headDim, input, inputLse, output, lse } = call;
  const values = { header: null, input, inputLse, output, lse, headDim, states, headsLast: 1 };
  const shape = { rows, sequences: rows, splitCount: states, tileCount: 0 };
  cuda.run([launch(cuda.modules, "merge", "attention-merge", values, () => [heads, rows, 1])], shape);
}
