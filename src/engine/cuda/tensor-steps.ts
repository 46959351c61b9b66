import type { BatchShape } from "../device/batch-buffer.js";
import { columnsOf, dense, dtypeOf } from "../device/places.js";
import { productOperands } from "../device/product-operands.js";
import type { ProjectStep } from "../program/step.js";
import type { CudaLaunch } from "./launch.js";
import { narrowOutput, operandType } from "./narrow-output.js";
import { launch, type StepContext } from "./step-context.js";
import { cheapestTile } from "./tensor-blocks.js";
import { convert } from "./widened-inputs.js";

/**
 * A product of many rows on tensor cores, its input rounded to the type of its weights.
 * @returns undefined where tensor cores do not take it.
 */
export function tensorProject(step: ProjectStep, context: StepContext): CudaLaunch[] | undefined {
  const { label, input, gated = false } = step;
  const { modules, memory, places, narrow, plan } = context;
  const dtype = operandType(step, context);
  if (!dtype) return undefined;
  if (step.norm || step.merges) throw new Error(`${label}: tiles take their input as it is`);
  const { matrix, firstRow, outputs, bias } = productOperands(step, memory.weights);
  const { columns } = matrix;
  const launches: CudaLaunch[] = [];
  const given = places.of(input);
  let operand = dtypeOf(given) === dtype ? dense(given, label, dtype) : narrow.find(places, input, dtype)?.buffer;
  if (!operand) {
    operand = narrow.leave(places, input, dtype).buffer;
    launches.push(
      convert(modules, "narrow", given, { ...given, buffer: operand, dtype, rowStride: columns, offset: 0 }),
    );
  }
  const name = step.outputs[0]!;
  const output = places.of(name);
  // Heads that are normed and rotated are no operands; the product of gate and up is one.
  const isOperand = step.outputs.length === 1 && outputs === columnsOf(output);
  const evenly = [outputs, output.rowStride, output.offset].every((count) => count % 4 === 0);
  const left = isOperand && evenly ? narrowOutput(name, context, dtype) : undefined;
  const values = {
    header: memory.batch.header,
    weights: matrix.buffer,
    input: operand,
    bias: bias?.buffer ?? null,
    residual: step.residual === undefined ? null : dense(places.of(step.residual), label),
    output: left?.wide === false ? null : output.buffer,
    narrow: left?.narrow ?? null,
    columns,
    outputs,
    firstRow,
    gated: gated ? 1 : 0,
    outputStride: output.rowStride,
    outputOffset: output.offset,
  };
  const weightRows = gated ? 2 * outputs : outputs;
  const tile = cheapestTile(plan.tileRows, weightRows, modules.multiprocessors);
  const across = Math.ceil(weightRows / tile.across);
  const grid = ({ rows }: BatchShape) => [across, Math.ceil(rows / tile.rows), 1] as const;
  return [...launches, launch(modules, label, "tensor-product", values, grid, `${dtype}_${tile.variant}`)];
}
