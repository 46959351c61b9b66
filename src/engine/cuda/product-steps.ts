import type { BatchShape } from "../device/batch-buffer.js";
import { formatOf } from "../device/element-format.js";
import { columnsOf, dense } from "../device/places.js";
import { productOperands } from "../device/product-operands.js";
import type { EmbedStep, NormStep, PointwiseStep, ProjectStep } from "../program/step.js";
import type { CudaLaunch } from "./launch.js";
import { narrowOutput } from "./narrow-output.js";
import { launch, type StepContext } from "./step-context.js";
import { tensorProject } from "./tensor-steps.js";

/** Rows of the embedding table. */
export function embed({ label, table, output }: EmbedStep, { modules, memory, places }: StepContext): CudaLaunch {
  const { matrix } = memory.weights.matrix(table);
  const values = {
    header: memory.batch.header,
    batch: memory.batch.arrays,
    weights: matrix.buffer,
    output: dense(places.of(output), label),
    columns: matrix.columns,
    vocabulary: matrix.rows,
    format: formatOf(matrix.dtype, "embedding"),
  };
  const across = Math.ceil(matrix.columns / 8 / 64);
  return launch(modules, label, "embedding", values, ({ rows }) => [across, rows, 1]);
}

/** RMSNorm of whole rows or of heads. */
export function norm(step: NormStep, context: StepContext): CudaLaunch {
  const { modules, memory, places } = context;
  const input = places.of(step.input);
  const output = places.of(step.output);
  const gain = memory.weights.vector(step.weight);
  const groups = columnsOf(output) / step.width;
  const { narrow, dtype, wide } = narrowOutput(step.output, context);
  const values = {
    input: input.buffer,
    gain: gain.buffer,
    output: wide ? output.buffer : null,
    narrow: narrow ?? null,
    width: step.width,
    format: dtype ? formatOf(dtype, step.label) : 0,
    epsilon: step.epsilon,
    inputStride: input.rowStride,
    inputOffset: input.offset,
    outputStride: output.rowStride,
    outputOffset: output.offset,
    gainOffset: gain.offset,
  };
  const rows = output.per === "sequence" ? "sequences" : "rows";
  return launch(modules, step.label, "rmsnorm", values, (shape) => [groups, shape[rows], 1]);
}

const formatNames = { bfloat16: "bfloat16", float16: "float16", float32: "float32" } as const;

/** A product with weights, and what is fused around it. */
export function project(step: ProjectStep, context: StepContext): CudaLaunch[] {
  const { modules, memory, places, workspace, plan } = context;
  const { label, gated = false, lastRows, merges = false } = step;
  const onTensorCores = tensorProject(step, context);
  if (onTensorCores) return onTensorCores;
  const { weights, batch, store } = memory;
  const { matrix, firstRow, outputs, bias, gain } = productOperands(step, weights);
  const output = places.of(step.outputs[0]!);
  const values = {
    header: batch.header,
    batch: batch.arrays,
    weights: matrix.buffer,
    input: merges ? workspace.states : dense(places.of(step.input), label),
    gain: gain?.buffer ?? null,
    bias: bias?.buffer ?? null,
    residual: step.residual === undefined ? null : dense(places.of(step.residual), label),
    lse: merges ? workspace.stateLse : null,
    output: output.buffer,
    columns: matrix.columns,
    outputs,
    firstRow,
    gated: gated ? 1 : 0,
    lastRows: lastRows ? 1 : 0,
    headDim: store.options.headDim,
    outputStride: output.rowStride,
    outputOffset: output.offset,
    epsilon: step.norm?.epsilon ?? 0,
  };
  const format = formatNames[matrix.dtype as keyof typeof formatNames];
  // lm_head has a row per sequence, which are few even when rows are many.
  if (plan.rows === 0 && !lastRows) {
    if (gain || merges) throw new Error(`${label}: tiles take their input as it is`);
    const across = Math.ceil(outputs / (gated ? 32 : 64));
    return [launch(modules, label, "tiles", values, ({ rows }) => [across, Math.ceil(rows / 64), 1], format)];
  }
  if (lastRows ? plan.oneLastRow : plan.oneRow) {
    const variant = merges ? "merge" : gated || outputs >= manyOutputs ? 2 : 1;
    const perBlock = variant === 2 && !gated ? 16 : 8;
    const across = Math.min(Math.ceil(outputs / perBlock), modules.multiprocessors * blocksAtOnce);
    return [launch(modules, label, "row-product", values, () => [across, 1, 1], `${format}_${variant}`)];
  }
  const rows = plan.rows || 4;
  const across = Math.ceil(outputs / (gated ? 1 : 2) / 4);
  const counted = lastRows ? "sequences" : "rows";
  const grid = (shape: BatchShape) => [across, Math.ceil(shape[counted] / rows), 1] as const;
  return [launch(modules, label, "product", values, grid, `${format}_2_${rows}`)];
}

/** Outputs from which on two weight rows a warp still leave every multiprocessor enough warps. */
const manyOutputs = 2048;
/** Blocks of a row's product that run on a multiprocessor at once; a block whose rows are more goes on to the next. */
const blocksAtOnce = 4;

const operations = { silu: 0, multiply: 1, add: 2, scale: 3 };

/** One channel at a time. */
export function pointwise(step: PointwiseStep, { modules, memory, places }: StepContext): CudaLaunch {
  const { label, operation, inputs, factor } = step;
  const [first, second] = inputs.map((name) => places.of(name));
  const output = places.of(step.output);
  const columns = columnsOf(output);
  const perSequence = output.per === "sequence";
  const values = {
    header: memory.batch.header,
    first: first!.buffer,
    second: second?.buffer ?? null,
    output: dense(output, label),
    operation: operations[operation],
    columns,
    perSequence: perSequence ? 1 : 0,
    factor: factor ?? 1,
    firstStride: first!.rowStride,
    firstOffset: first!.offset,
    secondStride: second?.rowStride ?? 0,
    secondOffset: second?.offset ?? 0,
  };
  const across = Math.ceil(columns / 128);
  const rows = perSequence ? "sequences" : "rows";
  return launch(modules, label, "pointwise", values, (shape) => [across, shape[rows], 1]);
}
