import type { BatchShape } from "../webgpu/batch-buffer.js";
import type { Gpu } from "../webgpu/device.js";
import { formatOf, kernel } from "../webgpu/kernels.js";
import type { Operand } from "../webgpu/pipelines.js";
import type { Matrix } from "../weights.js";
import type { Dispatch, Grid, Tap } from "./program.js";

/** How a batch's matrix products run: by matrix-vector kernels for few rows, else by tiles, on tensor cores if any. */
export interface ProductMode {
  /** Input rows per workgroup of the matrix-vector kernel; 0 for tiles. */
  readonly columns: 0 | 1 | 2 | 4 | 8;
  readonly tensorCores: boolean;
}

/** Rows up to which reading every weight once per eight rows beats tiles of 64. */
const fewRows = 16;

export function productMode(gpu: Gpu, rows: number): ProductMode {
  if (rows > fewRows) return { columns: 0, tensorCores: gpu.features.has("matrix") };
  const columns = rows === 1 ? 1 : rows === 2 ? 2 : rows <= 4 ? 4 : 8;
  return { columns, tensorCores: false };
}

export interface LinearRequest {
  readonly label: string;
  readonly matrix: Matrix;
  /** Rows of the matrix used: all unless given. With `gated` the matrix is gate rows, then as many up rows. */
  readonly firstRow?: number;
  readonly rowCount?: number;
  readonly input: GPUBuffer;
  readonly output: GPUBuffer;
  readonly outputStride: number;
  readonly outputOffset?: number;
  readonly bias?: GPUBuffer | undefined;
  readonly residual?: GPUBuffer | undefined;
  readonly gated?: boolean;
  readonly lastRows?: boolean;
  /** RMSNorm of the input, fused. */
  readonly norm?: { gain: GPUBuffer; epsilon: number } | undefined;
  /** The input is split attention states. */
  readonly merge?: { lse: GPUBuffer; headDim: number; mostSplits: number } | undefined;
  readonly reads: readonly Tap[];
  readonly writes: readonly Tap[];
}

export interface LinearContext {
  readonly gpu: Gpu;
  readonly mode: ProductMode;
  readonly header: GPUBuffer;
  readonly batch: GPUBuffer;
  /** Where tensor cores find their input in float16, with a power of two per row. */
  readonly halves?: { rows: GPUBuffer; scales: GPUBuffer } | undefined;
}

/** The dispatches of one linear layer, with everything fused that `request` names. */
export async function linearDispatches(context: LinearContext, request: LinearRequest): Promise<Dispatch[]> {
  const { gpu, mode } = context;
  const { matrix, gated = false, lastRows = false } = request;
  const n = gated ? matrix.rows / 2 : (request.rowCount ?? matrix.rows);
  const shared = {
    K: matrix.columns,
    N: n,
    FIRST_ROW: request.firstRow ?? 0,
    WEIGHT_FORMAT: formatOf(matrix.dtype, request.label),
    BIAS: request.bias !== undefined,
    RESIDUAL: request.residual !== undefined,
    GATED: gated,
    LAST_ROWS: lastRows,
    OUTPUT_STRIDE: request.outputStride,
    OUTPUT_OFFSET: request.outputOffset ?? 0,
  };
  const operands: Record<string, Operand> = {
    header: context.header,
    weights: matrix.buffer,
    input: request.input,
    output: request.output,
    batch: context.batch,
  };
  if (request.bias) operands.bias = request.bias;
  if (request.residual) operands.residual = request.residual;
  const rowsOf = (shape: BatchShape) => (lastRows ? shape.sequences : shape.rows);
  const { label, reads, writes } = request;

  // lm_head has a row per sequence, which are few even when rows are many.
  if (mode.columns > 0 || lastRows) {
    const columns = mode.columns || 4;
    const { threads, rows } = vectorTiling(n, matrix.columns, columns, request.merge !== undefined);
    const program = await kernel(gpu, "gemv", {
      ...shared,
      THREADS: threads,
      ROWS: rows,
      COLUMNS: columns,
      NORM: request.norm !== undefined,
      EPSILON: request.norm?.epsilon ?? 0,
      MERGE: request.merge !== undefined,
      HEAD_DIM: request.merge?.headDim ?? 8,
      MOST_SPLITS: request.merge?.mostSplits ?? 1,
    });
    if (request.norm) operands.gain = request.norm.gain;
    if (request.merge) operands.lse = request.merge.lse;
    const outputs = gated ? rows / 2 : rows;
    const grid = (shape: BatchShape): Grid => [Math.ceil(n / outputs), Math.ceil(rowsOf(shape) / columns), 1];
    return [{ label, kernel: program, group: program.bind(operands), grid, reads, writes }];
  }
  if (request.norm || request.merge) throw new Error(`${label}: tiles take their input as it is`);
  if (mode.tensorCores && context.halves && matrix.dtype !== "float32" && matrix.columns % 32 === 0) {
    return tensorCoreDispatches(context, request, shared, operands, n);
  }
  const program = await kernel(gpu, "gemm", { ...shared, INPUT_STRIDE: matrix.columns });
  const across = gated ? 32 : 64;
  const grid = (shape: BatchShape): Grid => [Math.ceil(n / across), Math.ceil(rowsOf(shape) / 64), 1];
  return [{ label, kernel: program, group: program.bind(operands), grid, reads, writes }];
}

async function tensorCoreDispatches(
  context: LinearContext,
  request: LinearRequest,
  shared: Record<string, number | boolean>,
  operands: Record<string, Operand>,
  n: number,
): Promise<Dispatch[]> {
  const { gpu } = context;
  const { rows, scales } = context.halves!;
  const { matrix, label, gated = false } = request;
  const columns = gated ? 2 * n : n;
  const halves = await kernel(gpu, "half-rows", { WIDTH: matrix.columns });
  // Narrow outputs have too few tiles of 128 rows to fill a large GPU.
  const down = columns <= 2048 ? 2 : 4;
  const { LAST_ROWS: _last, ...constants } = shared;
  const program = await kernel(gpu, "gemm-matrix", { ...constants, DOWN: down });
  const { input, batch: _batch, ...rest } = operands;
  return [
    {
      label: "input to float16",
      kernel: halves,
      group: halves.bind({ header: context.header, input: input!, output: rows, scales }),
      grid: (shape) => [1, shape.rows, 1],
      reads: [],
      writes: [],
    },
    {
      label,
      kernel: program,
      group: program.bind({ ...rest, input: rows, scales, weight_scales: await weightScales(gpu, matrix) }),
      grid: (shape) => [Math.ceil(columns / 128), Math.ceil(shape.rows / (32 * down)), 1],
      reads: request.reads,
      writes: request.writes,
    },
  ];
}

const scalesOf = new WeakMap<GPUBuffer, GPUBuffer>();

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
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(program.pipeline);
  pass.setBindGroup(0, program.bind({ weights: matrix.buffer, scales }));
  pass.dispatchWorkgroups(matrix.rows);
  pass.end();
  gpu.device.queue.submit([encoder.finish()]);
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
