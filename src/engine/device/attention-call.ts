import type { DType } from "../../tensor/dtype.js";
import type { AttentionMask } from "../program/step.js";
import type { DeviceBuffer } from "./backend.js";
import type { BatchBuffer, BatchShape } from "./batch-buffer.js";
import { parameterBlock } from "./parameter-block.js";
import type { CacheView } from "./tensor.js";

/** How one attention call addresses its operands and masks its scores. Strides and offsets count elements. */
export const attentionParameters = parameterBlock("AttentionParameters", {
  /** sm_scale; the kernels work in base 2. */
  scale: "f32",
  /** 0: none; else scores become cap · tanh(score / cap). */
  softCap: "f32",
  /** -1: none; else a query sees at most windowLeft + 1 keys up to its own position. */
  windowLeft: "i32",
  causal: "u32",
  queryRowStride: "u32",
  queryHeadStride: "u32",
  queryOffset: "u32",
  keyPageStride: "u32",
  keySlotStride: "u32",
  keyHeadStride: "u32",
  keyOffset: "u32",
  valuePageStride: "u32",
  valueSlotStride: "u32",
  valueHeadStride: "u32",
  valueOffset: "u32",
});

/** Rows of heads in memory; strides and offset count elements. */
export interface HeadRows {
  readonly buffer: DeviceBuffer;
  readonly dtype: DType;
  readonly rowStride: number;
  readonly headStride: number;
  readonly offset: number;
}

/** One attention over a batch in device memory, every array of it checked. */
export interface AttentionCall {
  readonly batch: BatchBuffer;
  readonly shape: BatchShape;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly mask: AttentionMask;
  /** One query row per sequence. */
  readonly decode: boolean;
  readonly query: HeadRows;
  readonly cache: CacheView;
  /** Tokens per page; undefined where K and V are rows that follow one another. */
  readonly pageSize: number | undefined;
  /** [rows, heads, head_dim] and the base-2 log-sum-exp [rows, heads], float32. */
  readonly output: DeviceBuffer;
  readonly lse: DeviceBuffer;
}

/** Rows of K and V into the slots that the batch names. */
export interface AppendCall {
  readonly batch: BatchBuffer;
  readonly shape: BatchShape;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly key: HeadRows;
  readonly value: HeadRows;
  readonly cache: CacheView;
}

/** Attention states [rows, states, heads, head_dim] with their base-2 log-sum-exp [rows, states, heads], joined. */
export interface MergeCall {
  readonly rows: number;
  readonly states: number;
  readonly heads: number;
  readonly headDim: number;
  readonly input: DeviceBuffer;
  readonly inputLse: DeviceBuffer;
  readonly output: DeviceBuffer;
  readonly lse: DeviceBuffer;
}

/** AttentionParameters of one call; a kernel that only addresses the cache has no use for the rest. */
export function packAddressing(
  cache: CacheView,
  query: Omit<HeadRows, "buffer" | "dtype"> = { rowStride: 0, headStride: 0, offset: 0 },
  mask: AttentionMask = { scale: 0, softCap: 0, windowLeft: -1, causal: false },
): Uint8Array<ArrayBuffer> {
  const [keyPageStride, keySlotStride, keyHeadStride] = cache.keyStrides;
  const [valuePageStride, valueSlotStride, valueHeadStride] = cache.valueStrides;
  return attentionParameters.pack({
    scale: mask.scale,
    softCap: mask.softCap,
    windowLeft: mask.windowLeft,
    causal: mask.causal ? 1 : 0,
    queryRowStride: query.rowStride,
    queryHeadStride: query.headStride,
    queryOffset: query.offset,
    keyPageStride,
    keySlotStride,
    keyHeadStride,
    keyOffset: cache.keys.offset ?? 0,
    valuePageStride,
    valueSlotStride,
    valueHeadStride,
    valueOffset: cache.values.offset ?? 0,
  });
}
