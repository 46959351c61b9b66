import { type DType, floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll, rounderTo } from "../../tensor/rounding.js";
import { accumulationVariance, flipVariance, matrixVariance } from "../noise.js";

/** A running sum that is rounded to a narrow type every few terms; the terms in between are added in float32. */
export interface Accumulator {
  readonly dtype: DType;
  readonly terms: number;
  /** Whether the sum begins with the bias; it is added to the stored result otherwise. */
  readonly biasFirst: boolean;
}

/** x[xStart + i] · w[wStart + i], i < n. */
export interface Products {
  readonly x: Float64Array;
  readonly xStart: number;
  readonly w: Float64Array;
  readonly wStart: number;
  readonly n: number;
}

const running = new Float64Array(1);

/** The sum of the products as the accumulator has it. */
export function accumulate({ x, xStart, w, wStart, n }: Products, { dtype, terms }: Accumulator, bias: number): number {
  const round = rounderTo(floatFormat(dtype)!);
  let running = bias;
  for (let first = 0; first < n; first += terms) {
    const end = Math.min(n, first + terms);
    let part = 0;
    for (let i = first; i < end; i++) part += x[xStart + i]! * w[wStart + i]!;
    running = round(Math.fround(running + part));
  }
  return running;
}

/** Second moment of its error, where terms in between are added in another order: flips of its roundings. */
export function accumulatorNoise(
  { x, xStart, w, wStart, n }: Products,
  { dtype, terms }: Accumulator,
  bias: number,
): { variance: number; jump: number } {
  const format = floatFormat(dtype)!;
  running[0] = bias;
  let variance = 0;
  let jump = 0;
  for (let first = 0; first < n; first += terms) {
    const end = Math.min(n, first + terms);
    let part = 0;
    let squares = 0;
    for (let i = first; i < end; i++) {
      const term = x[xStart + i]! * w[wStart + i]!;
      part += term;
      squares += term * term;
    }
    const before = running[0]! + part;
    // A product of two 16-bit numbers is exact in float32: alone it cannot be added in another order.
    const summed = end - first > 1 ? matrixVariance(part, squares, end - first) : 0;
    variance = flipVariance(before, variance + summed + accumulationVariance(before, before * before, 1), dtype);
    if (variance > 0) jump = Math.max(jump, unitInLastPlace(before, format));
    running[0] = Math.fround(before);
    roundAll(running, dtype);
  }
  return { variance, jump };
}
