import { elementMemory, mostPlaced } from "./element-memory.js";
import { type FloatFormat, leastWithUlp } from "./float-format.js";

/** How the columns of a product are summed: each with its sign, in blocks of `width`, the last of what is left. */
export interface ColumnBlocks {
  readonly signs: Int8Array;
  /** Columns per block: at most `mostPlaced`. */
  readonly width: number;
  /** Added to each column, [columns]. */
  readonly biases: Float64Array | undefined;
}

const ySlot = 0;
const expectedSlot = 1;
const biasSlot = 2;
const signSlot = 3;
const zSlot = 4;

/** The root mean square of a row, over all its elements; those that are not finite count as 0. */
export function rootMeanSquare(y: Float64Array): number {
  const memory = elementMemory();
  let sum = 0;
  for (let first = 0; first < y.length; first += mostPlaced) {
    const count = Math.min(mostPlaced, y.length - first);
    sum = memory.kernels.sumSquares(memory.place(y, first, count, ySlot), count, sum);
  }
  return Math.sqrt(sum / y.length);
}

/**
 * Residuals of a row of a product over blocks of its columns, in units of what stores in `format` scatter by:
 * z_b = |Σ s_c·(y_c − b_c) − expected_b| / √(Σ ulp_c² / 12). NaN where the product itself is not finite says nothing: z is
 * 0; it is infinite where only the record is not.
 * @param y the row as it was recorded, [columns].
 * @param expected Σ s_c·y_c of each block without the bias, as it should be.
 * @param least what no ulp² counts as less than.
 */
export function blockResiduals(
  y: Float64Array,
  { signs, width, biases }: ColumnBlocks,
  expected: Float64Array,
  format: FloatFormat,
  least: number,
  z: Float64Array,
): void {
  const memory = elementMemory();
  const isThere = memory.holds(z);
  const most = Math.max(1, Math.floor(mostPlaced / width));
  for (let block = 0; block < z.length; block += most) {
    const blocks = Math.min(most, z.length - block);
    const first = block * width;
    const columns = Math.min(y.length - first, blocks * width);
    memory.kernels.residuals(
      memory.place(y, first, columns, ySlot),
      columns,
      width,
      memory.placeBytes(signs.subarray(first, first + columns), signSlot),
      biases ? memory.place(biases, first, columns, biasSlot) : 0,
      memory.place(expected, block, blocks, expectedSlot),
      leastWithUlp(format),
      -format.fractionBits,
      least,
      isThere ? z.byteOffset + block * 8 : memory.slotAddress(zSlot),
    );
    if (!isThere) z.set(memory.slot(zSlot).subarray(0, blocks), block);
  }
}
