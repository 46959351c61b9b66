import { formatOf } from "../device/element-format.js";
import { columnsOf, dense } from "../device/places.js";
import { productOperands } from "../device/product-operands.js";
import type { ProjectStep } from "../program/step.js";
import type { CudaLaunch } from "./launch.js";
import { narrowTypeOf } from "./narrow-copies.js";
import { launch, type StepContext } from "./step-context.js";

/** Rows × weight rows of the tiles that there are kernels of, the largest first. */
const tiles = [
  [128, 256],
  [128, 128],
  [64, 64],
  [64, 32],
] as const;
/** Tiles that keep a large GPU's multiprocessors busy. */
const enoughTiles = 96;

/**
 * A product of many rows on tensor cores, its input rounded to the type of its weights.
 * @returns undefined where the weights are not of 16 bits.
 */
export function tensorProject(step: ProjectStep, context: StepContext): CudaLaunch[] | undefined {
  const { label, input, gated = false } = step;
  const { modules, memory, places, narrow, plan } = context;
  const { matrix, firstRow, outputs, bias } = productOperands(step, memory.weights);
  const dtype = narrowTypeOf(matrix.dtype);
  if (!dtype) return undefined;
  const { columns } = matrix;
  const launches: CudaLaunch[] = [];
  let operand = narrow.find(places, input, dtype);
  if (!operand) {
    operand = narrow.leave(places, input, dtype);
    const format = formatOf(dtype, label);
    const values = { input: dense(places.of(input), label), output: operand.buffer, columns, format };
    const across = Math.ceil(columns / 8 / 128);
    launches.push(launch(modules, "narrow", "narrow", values, ({ rows }) => [across, rows, 1]));
  }
  const name = step.outputs[0]!;
  const output = places.of(name);
  // Heads that are normed and rotated are no operands; the product of gate and up is one.
  const isOperand = step.outputs.length === 1 && outputs === columnsOf(output) && narrow.typeFor(name) === dtype;
  const values = {
    header: memory.batch.header,
    weights: matrix.buffer,
    input: operand.buffer,
    bias: bias?.buffer ?? null,
    residual: step.residual === undefined ? null : dense(places.of(step.residual), label),
    output: output.buffer,
    narrow: isOperand && outputs % 2 === 0 ? narrow.leave(places, name, dtype).buffer : null,
    columns,
    outputs,
    firstRow,
    gated: gated ? 1 : 0,
    outputStride: output.rowStride,
    outputOffset: output.offset,
  };
  const weightRows = gated ? 2 * outputs : outputs;
  const [height, across] = tileFor(plan.tileRows, weightRows);
  const grid = Math.ceil(weightRows / across);
  const variant = `${dtype}_${height}x${across}`;
  return [
    ...launches,
    launch(modules, label, "tensor-product", values, ({ rows }) => [grid, Math.ceil(rows / height), 1], variant),
  ];
}

/** The largest tile of which there are enough, or the smallest. */
function tileFor(rows: number, weightRows: number) {
  const enough = tiles.find(([height, across]) => {
    return Math.ceil(rows / height) * Math.ceil(weightRows / across) >= enoughTiles;
  });
  return enough ?? tiles.at(-1)!;
}
