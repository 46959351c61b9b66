/** Bytes read at a time: they are to be in the second-level cache still when they are summed. */
const chunkBytes = 2 ** 18;
/** Bytes of block vectors that are multiplied at a time. */
const panelBytes = 2 ** 19;
/** Bytes of X that stay in the module's memory. */
const operandBytes = 2 ** 23;
/** Products made at a time: 2 MB of them at most. */
const mostBlocks = 256;
const mostRows = 1024;

type Add = (weights: number, rows: number, inputs: number, masks: number, vector: number) => void;

type Multiply = (
  x: number,
  rows: number,
  vectors: number,
  blocks: number,
  stride: number,
  length: number,
  out: number,
  outStride: number,
) => void;

/** What the module exports; addresses are byte positions in its memory, strides bytes. */
export interface BlockSumsKernels {
  readonly addBfloat16: Add;
  readonly addFloat32: Add;
  readonly addFloat64: Add;
  readonly widenFloat16: (from: number, to: number, count: number) => void;
  readonly roundFloat32: (at: number, count: number, cut: number) => void;
  readonly narrowFloat64: (from: number, to: number, count: number) => void;
  readonly multiply: Multiply;
  readonly multiplySingle: Multiply;
}

/** Byte positions within the module's memory; strides in elements. */
export interface BlockSumsLayout {
  readonly chunkRows: number;
  /** Where rows are read to, and where they lie in the type they are summed in. */
  readonly raw: number;
  readonly weights: number;
  readonly masks: number;
  readonly vectors: number;
  /** The block vectors in float32, where they are multiplied so. */
  readonly narrowed: number;
  readonly x: number;
  readonly out: number;
  readonly stride: number;
  readonly panelBlocks: number;
  readonly panelRows: number;
  readonly end: number;
}

/** What a layout is made for. */
interface Sizes {
  readonly rows: number;
  readonly inputs: number;
  readonly columns: number;
  readonly blocks: number;
  /** Bytes of a weight as it is read, and as it is summed. */
  readonly readWidth: number;
  readonly summedWidth: number;
  /** Whether the weights that are summed lie elsewhere than those that are read. */
  readonly apart: boolean;
  /** Whether products are taken in float32. */
  readonly single: boolean;
}

/** Places everything in some 12 MB; a single row of weights or X may take more. */
export function layoutOf({
  rows,
  inputs,
  columns,
  blocks,
  readWidth,
  summedWidth,
  apart,
  single,
}: Sizes): BlockSumsLayout {
  // Kernels step over 16 elements; the 16 more keep rows of 2^n inputs out of each other's cache sets.
  const stride = roundUp(inputs, 16) + 16;
  const rowBytes = inputs * readWidth;
  const chunkRows = Math.max(1, Math.min(columns, Math.floor(chunkBytes / Math.max(1, rowBytes))));
  const panelBlocks = roundUp(Math.max(1, Math.min(blocks, mostBlocks, Math.floor(panelBytes / (stride * 8)))), 2);
  const panelRows = roundUp(Math.max(1, Math.min(rows, mostRows, Math.floor(operandBytes / (stride * 8)))), 4);
  let end = 0;
  const take = (bytes: number) => {
    const start = end;
    // Kernels read up to a step beyond the last element.
    end = roundUp(start + bytes, 64) + 64;
    return start;
  };
  const raw = take(chunkRows * rowBytes);
  const weights = apart ? take(chunkRows * inputs * summedWidth) : raw;
  const masks = take(chunkRows * 8);
  const vectors = take(panelBlocks * stride * 8);
  const narrowed = take(single ? panelBlocks * stride * 4 : 0);
  const x = take(panelRows * stride * (single ? 4 : 8));
  const out = take(panelRows * panelBlocks * 8);
  return { chunkRows, raw, weights, masks, vectors, narrowed, x, out, stride, panelBlocks, panelRows, end };
}

/** The next multiple of `multiple`. */
export function roundUp(n: number, multiple: number): number {
  return Math.ceil(n / multiple) * multiple;
}
