import type { BatchBuffer, BatchShape } from "../device/batch-buffer.js";
import { formatOf } from "../device/element-format.js";
import type { Matrix } from "../device/weights.js";
import type { Dispatch, Grid } from "./dispatch.js";
import type { Gpu } from "./gpu.js";
import { type Constants, kernel } from "./kernels.js";
import type { Operand } from "./pipelines.js";

/** How a batch's matrix products run: by matrix-vector kernels for few rows, else by tiles, on tensor cores if any. */
export interface ProductMode {
  /** Input rows per workgroup of the matrix-vector kernel; 0 for tiles. */
  readonly columns: 0 | 1 | 2 | 4 | 8;
  readonly tensorCores: boolean;
}

/** Rows up to which reading every weight once per eight rows beats tiles of 64. */
const fewRows = 16;

export function productMode(features: ReadonlySet<string>, rows: number): ProductMode {
  if (rows > fewRows) return { columns: 0, tensorCores: features.has("matrix") };
  const columns = rows === 1 ? 1 : rows === 2 ? 2 : rows <= 4 ? 4 : 8;
  return { columns, tensorCores: false };
}

export interface ProductRequest {
  readonly label: string;
  readonly matrix: Matrix;
  readonly firstRow: number;
  /** Outputs per row: rows of the matrix used. With `gated` the matrix is as many gate rows, then as many up rows. */
  readonly outputs: number;
  readonly input: Operand;
  readonly output: Operand;
  readonly outputStride: number;
  readonly outputOffset: number;
  readonly bias: Operand | undefined;
  readonly residual: Operand | undefined;
  readonly gated: boolean;
  readonly lastRows: boolean;
  /** RMSNorm of the input, fused. */
  readonly norm: { readonly gain: Operand; readonly epsilon: number } | undefined;
  /** The input is split attention states. */
  readonly merge: { readonly lse: Operand; readonly headDim: number; readonly mostSplits: number } | undefined;
}

export interface ProductContext {
  readonly mode: ProductMode;
  readonly batch: BatchBuffer;
  /** Where tensor cores find their input in float16, with a power of two per row. */
  readonly halves: { readonly rows: Operand; readonly scales: Operand } | undefined;
}

/** The dispatches of one product, with everything fused that `request` names. */
export async function productDispatches(
  gpu: Gpu,
  context: ProductContext,
  request: ProductRequest,
): Promise<Dispatch[]> {
  const { mode, batch } = context;
  const { label, matrix, gated, lastRows, outputs: n } = request;
  const shared = {
    K: matrix.columns,
    N: n,
    FIRST_ROW: request.firstRow,
    WEIGHT_FORMAT: formatOf(matrix.dtype, label),
    BIAS: request.bias !== undefined,
    RESIDUAL: request.residual !== undefined,
    GATED: gated,
    OUTPUT_STRIDE: request.outputStride,
    OUTPUT_OFFSET: request.outputOffset,
  };
  const operands: Record<string, Operand> = {
    header: batch.header,
    weights: matrix.buffer,
    input: request.input,
    output: request.output,
  };
  if (request.bias) operands.bias = request.bias;
  if (request.residual) operands.residual = request.residual;

  // lm_head has a row per sequence, which are few even when rows are many.
  if (mode.columns > 0 || lastRows) {
    const columns = mode.columns || 4;
    const { threads, rows } = vectorTiling(n, matrix.columns, columns, request.merge !== undefined);
    const program = await kernel(gpu, "gemv", {
      ...shared,
      THREADS: threads,
      ROWS: rows,
      COLUMNS: columns,
      LAST_ROWS: lastRows,
      NORM: request.norm !== undefined,
      EPSILON: request.norm?.epsilon ?? 0,
      MERGE: request.merge !== undefined,
      HEAD_DIM: request.merge?.headDim ?? 8,
      MOST_SPLITS: request.merge?.mostSplits ?? 1,
    });
    operands.batch = batch.arrays;
    if (request.norm) operands.gain = request.norm.gain;
    if (request.merge) operands.lse = request.merge.lse;
    const perGroup = gated ? rows / 2 : rows;
    const rowsOf = (shape: BatchShape) => (lastRows ? shape.sequences : shape.rows);
    const grid = (shape: BatchShape): Grid => [Math.ceil(n / perGroup), Math.ceil(rowsOf(shape) / columns), 1];
    return [{ label, kernel: program, group: program.bind(operands), grid }];
  }
  if (request.norm || request.merge) throw new Error(`${label}: tiles take their input as it is`);
  if (mode.tensorCores && context.halves && matrix.dtype !== "float32" && matrix.columns % 32 === 0) {
    return tensorCoreDispatches(gpu, batch, context.halves, request, shared, operands);
  }
  const program = await kernel(gpu, "gemm", { ...shared, INPUT_STRIDE: matrix.columns });
  const across = gated ? 32 : 64;
  const grid = (shape: BatchShape): Grid => [Math.ceil(n / across), Math.ceil(shape.rows / 64), 1];
  return [{ label, kernel: program, group: program.bind(operands), grid }];
}

async function tensorCoreDispatches(
  gpu: Gpu,
  { header }: BatchBuffer,
  { rows, scales }: { readonly rows: Operand; readonly scales: Operand },
  request: ProductRequest,
  constants: Constants,
  operands: Readonly<Record<string, Operand>>,
): Promise<Dispatch[]> {
  const { matrix, label, gated, outputs, input } = request;
  const columns = gated ? 2 * outputs : outputs;
  const halves = await kernel(gpu, "half-rows", { WIDTH: matrix.columns });
  // Narrow outputs have too few tiles of 128 rows to fill a large GPU.
  const down = columns <= 2048 ? 2 : 4;
  const program = await kernel(gpu, "gemm-matrix", { ...constants, DOWN: down });
  const group = program.bind({ ...operands, input: rows, scales, weight_scales: await weightScales(gpu, matrix) });
  return [
    {
      label: "input to float16",
      kernel: halves,
      group: halves.bind({ header, input, output: rows, scales }),
      grid: (shape) => [1, shape.rows, 1],
    },
    {
      label,
      kernel: program,
      group,
      grid: (shape) => [Math.ceil(columns / 128), Math.ceil(shape.rows / (32 * down)), 1],
    },
  ];
}

const scalesOf = new WeakMap<Operand, GPUBuffer>();

/** Powers of two of a matrix's rows, computed once per matrix. */
async function weightScales(gpu: Gpu, matrix: Matrix): Promise<GPUBuffer> {
  const known = scalesOf.get(matrix.buffer);
  if (known) return known;
  const program = await kernel(gpu, "weight-scales", {
    K: matrix.columns,
    WEIGHT_FORMAT: formatOf(matrix.dtype, "weights"),
  });
  const scales = gpu.buffer("weight scales", matrix.rows * 8);
  scalesOf.set(matrix.buffer, scales);
  const group = program.bind({ weights: matrix.buffer, scales });
  const shape = { rows: matrix.rows, sequences: 1, splitCount: 1, tileCount: 0 };
  gpu.run([{ label: "weight scales", kernel: program, group, grid: () => [matrix.rows, 1, 1] }], shape);
  return scales;
}

/** Threads and weight rows of a workgroup of the matrix-vector kernel; docs/performance.md has the measurements. */
export function vectorTiling(n: number, k: number, columns: number, merge: boolean): { threads: number; rows: number } {
  // A thread takes eight inputs at a time: a narrow matrix has no work for more.
  const busy = (threads: number) => Math.min(threads, Math.max(32, 2 ** Math.ceil(Math.log2(k / 8))));
  // More input rows per workgroup need registers: fewer weight rows then.
  if (columns >= 8) return { threads: busy(64), rows: 4 };
  // Every workgroup merges the whole input: few of them, and a chunk per thread.
  if (merge) return { threads: busy(256), rows: 4 };
  // A vocabulary's rows are many: a subgroup takes eight of them.
  if (n >= 32768) return { threads: 32, rows: 8 };
  return k >= 2048 ? { threads: 256, rows: 1 } : { threads: busy(128), rows: 4 };
}
