import { formatOf } from "../device/element-format.js";
import { columnsOf, dense } from "../device/places.js";
import { productOperands } from "../device/product-operands.js";
import type { EmbedStep, NormStep, PointwiseStep, ProjectStep } from "../program/step.js";
import type { Dispatch } from "./dispatch.js";
import { productDispatches } from "./products.js";
import { dispatch, type StepContext } from "./step-context.js";

/** Rows of the embedding table. */
export async function embed({ label, table, output }: EmbedStep, context: StepContext): Promise<Dispatch[]> {
  const { gpu, memory, places } = context;
  const { matrix } = memory.weights.matrix(table);
  const constants = {
    K: matrix.columns,
    VOCABULARY: matrix.rows,
    WEIGHT_FORMAT: formatOf(matrix.dtype, "embedding"),
  };
  const { header, arrays: batch } = memory.batch;
  const operands = { header, batch, weights: matrix.buffer, output: dense(places.of(output), label) };
  const across = Math.ceil(matrix.columns / 8 / 64);
  return [await dispatch(gpu, label, "embedding", constants, operands, (shape) => [across, shape.rows, 1])];
}

/** RMSNorm of whole rows or of heads. */
export async function norm(step: NormStep, { gpu, memory, places }: StepContext): Promise<Dispatch[]> {
  const input = places.of(step.input);
  const output = places.of(step.output);
  const gain = memory.weights.vector(step.weight);
  const groups = columnsOf(output) / step.width;
  const constants = {
    WIDTH: step.width,
    EPSILON: step.epsilon,
    THREADS: groups === 1 ? 128 : 64,
    INPUT_STRIDE: input.rowStride,
    INPUT_OFFSET: input.offset,
    OUTPUT_STRIDE: output.rowStride,
    OUTPUT_OFFSET: output.offset,
    GAIN_OFFSET: gain.offset,
  };
  const operands = { input: input.buffer, gain: gain.buffer, output: output.buffer };
  return [await dispatch(gpu, step.label, "rmsnorm", constants, operands, (shape) => [groups, shape.rows, 1])];
}

/** A product with weights, and what is fused around it. */
export async function project(step: ProjectStep, context: StepContext): Promise<Dispatch[]> {
  const { gpu, memory, places, workspace, plan } = context;
  const { label, gated = false, lastRows, merges } = step;
  const { weights, batch, store } = memory;
  const { matrix, firstRow, outputs, bias, gain } = productOperands(step, weights);
  const output = places.of(step.outputs[0]!);
  return productDispatches(
    gpu,
    { mode: plan.mode, batch, halves: workspace.halves },
    {
      label,
      matrix,
      firstRow,
      outputs,
      input: merges ? workspace.states : dense(places.of(step.input), label),
      output: output.buffer,
      outputStride: output.rowStride,
      outputOffset: output.offset,
      bias: bias?.buffer,
      residual: step.residual === undefined ? undefined : dense(places.of(step.residual), label),
      gated,
      lastRows,
      norm: gain && { gain: gain.buffer, epsilon: step.norm!.epsilon },
      merge: merges
        ? { lse: workspace.stateLse, headDim: store.options.headDim, mostSplits: plan.mergedSplits }
        : undefined,
    },
  );
}

const operations = { silu: 0, multiply: 1, add: 2, scale: 3 };

/** One channel at a time. */
export async function pointwise(step: PointwiseStep, { gpu, memory, places }: StepContext): Promise<Dispatch[]> {
  const { label, operation, inputs, factor } = step;
  const [first, second] = inputs.map((name) => places.of(name));
  const output = places.of(step.output);
  const columns = columnsOf(output);
  const perSequence = output.per === "sequence";
  const constants = {
    OPERATION: operations[operation],
    COLUMNS: columns,
    PER_SEQUENCE: perSequence,
    ...(factor !== undefined && { FACTOR: Math.fround(factor) }),
    FIRST_STRIDE: first!.rowStride,
    FIRST_OFFSET: first!.offset,
    ...(second && { SECOND_STRIDE: second.rowStride, SECOND_OFFSET: second.offset }),
  };
  const operands = {
    header: memory.batch.header,
    first: first!.buffer,
    ...(second && { second: second.buffer }),
    output: dense(output, label),
  };
  const across = Math.ceil(columns / 128);
  const rows = perSequence ? "sequences" : "rows";
  return [await dispatch(gpu, label, "elementwise", constants, operands, (shape) => [across, shape[rows], 1])];
}
