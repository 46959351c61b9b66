import { elementMemory, mostPlaced } from "./element-memory.js";
import { type FloatFormat, leastWithUlp } from "./float-format.js";

/** How recorded elements agree with values as they are stored. */
export interface Tally {
  /** Those that are equal. */
  readonly equal: number;
  /** Σz² and the largest z of what one store took from the equal ones, z in its standard errors. */
  readonly squares: number;
  readonly maxZ: number;
  /** Indices of those that differ, if their value is finite. */
  readonly others: readonly number[];
}

const valueSlot = 0;
const expectedSlot = 1;
const observedSlot = 2;
const othersSlot = 3;
const sumsSlot = 4;

/**
 * Counts equal elements, what one store took from them, and the others.
 * @param expected `value` as it is stored in `format`.
 */
export function tallyOf(
  value: Float64Array,
  expected: Float64Array,
  observed: Float64Array,
  format: FloatFormat,
): Tally {
  const memory = elementMemory();
  const sums = memory.slot(sumsSlot).subarray(0, 3).fill(0);
  const found = new Int32Array(sums.buffer, memory.slotAddress(othersSlot), mostPlaced);
  const others: number[] = [];
  for (let first = 0; first < observed.length; first += mostPlaced) {
    const count = Math.min(mostPlaced, observed.length - first);
    const differing = memory.kernels.tally(
      memory.place(value, first, count, valueSlot),
      memory.place(expected, first, count, expectedSlot),
      memory.place(observed, first, count, observedSlot),
      count,
      leastWithUlp(format),
      -format.fractionBits,
      first,
      memory.slotAddress(othersSlot),
      memory.slotAddress(sumsSlot),
    );
    for (let i = 0; i < differing; i++) others.push(found[i]!);
  }
  return { equal: sums[2]!, squares: sums[0]!, maxZ: sums[1]!, others };
}
