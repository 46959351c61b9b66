import { floatFormat, roundTo, unitInLastPlace } from "../../tensor/dtype.js";
import { type PartialSum, PartialSums } from "../../tensor/partial-sums.js";
import type { Target } from "../../tensor/row-products.js";
import { operandFormat } from "../narrow-operands.js";
import {
  accumulationVariance,
  computeVariance,
  flipVariance,
  float32Max,
  largestStoreVariance,
  longerPath,
  matrixVariance,
  operandVariance,
  stagnation,
  storeVariance,
} from "../noise.js";
import { type Block, type MutableBlock, mayBe, type OpContext, raiseJump } from "../op.js";
import { RunningSum } from "../running-sum.js";
import { type Accumulator, accumulatorNoise } from "./accumulator.js";

/** A column of the product: a row of W of `n` terms, and what is added to it. */
interface Column {
  readonly w: Float64Array;
  readonly wStart: number;
  readonly n: number;
  readonly bias: number;
}

/** Parts of a sum that is split along its terms, at most. */
const mostParts = 8;

let sums: PartialSums | undefined;

/** What rounding may make of the elements of a product, a few rows of x at a time, column by column. */
export class LinearNoise {
  readonly #sums: PartialSums;
  #first = 0;
  #count = 0;

  /**
   * @param x [rows, inputs].
   * @param bounds first terms of the parts of the sum, and its end.
   */
  constructor(
    readonly context: OpContext,
    readonly x: Block,
    readonly bounds: readonly number[],
    readonly accumulator: Accumulator | undefined,
  ) {
    sums ??= new PartialSums();
    this.#sums = sums;
  }

  /** How many rows of `n` inputs are taken at a time. */
  rowsTogether(n: number): number {
    return PartialSums.rowsTogether(n);
  }

  /** Takes `count` rows of x from row `first` on. Until all their columns are done, no other product's are. */
  place(first: number, count: number, n: number): void {
    this.#first = first;
    this.#count = count;
    this.#sums.place(this.x, first, count, n);
  }

  /**
   * Adds the noise of a column of the rows taken.
   * @param sumsToo whether the column's values are its sums, term by term, and are written as well.
   */
  add(column: Column, out: MutableBlock, { at, stride }: Target, sumsToo = false): void {
    const { accumulator } = this;
    this.#sums.multiply(column.w, column.wStart, accumulator ? [0, column.n] : this.bounds);
    if (sumsToo) for (let r = 0; r < this.#count; r++) out.value[at + r * stride] = this.#sums.part(0, r).sum;
    for (let r = 0; r < this.#count; r++) {
      if (accumulator) this.#ofAccumulator(column, accumulator, r, out, at + r * stride);
      else this.#ofElement(column, r, out, at + r * stride);
    }
  }

  /** Of a narrow running sum: its own flips, and what the operands' uncertainty makes of the sum. */
  #ofAccumulator({ w, wStart, n, bias }: Column, accumulator: Accumulator, r: number, out: MutableBlock, at: number) {
    const products = { x: this.x.value, xStart: (this.#first + r) * n, w, wStart, n };
    const { variance, jump } = accumulatorNoise(products, accumulator, accumulator.biasFirst ? bias : 0);
    const part = this.#sums.part(0, r);
    out.variance[at] = variance + part.reaching + this.#lost({ w, wStart, n, bias }, r, 0, n, part) ** 2;
    raiseJump(out, at, Math.max(jump, part.jump));
  }

  /** Order of summation, what the operands' own uncertainty makes of the sum, and flips of parts that are stored. */
  #ofElement(column: Column, r: number, out: MutableBlock, at: number): void {
    const { bounds } = this;
    const { bias } = column;
    const { precision, rounding } = this.context;
    const operand = rounding ? 0 : operandVariance(precision);
    const matrix =
      precision.store !== "float32" || precision.compute === "tf32" || operandFormat(rounding?.settings) !== undefined;
    const parts = bounds.length - 1;
    const running = parts > 1 && rounding?.settings.running ? new RunningSum(rounding.store) : undefined;
    let total = 0;
    let squaresOfAll = 0;
    let partialSquares = 0;
    for (let p = 0; p < parts; p++) {
      const n = bounds[p + 1]! - bounds[p]!;
      const part = this.#sums.part(p, r);
      const { sum, squares } = part;
      const path = longerPath(sum, n, part.partials, part.partialSquares);
      let variance = squares * operand + (matrix ? matrixVariance : accumulationVariance)(sum, squares, n, path);
      const lost = this.#lost(column, r, bounds[p]!, n, part);
      variance += part.reaching + lost * lost;
      let { jump } = part;
      if (parts > 1 || rounding?.settings.biasAfter) {
        variance = flipVariance(sum, variance, rounding!.store, jump);
        const format = floatFormat(rounding!.store);
        if (variance > 0 && format) jump = Math.max(jump, unitInLastPlace(sum, format));
      }
      raiseJump(out, at, jump);
      if (running) running.add(roundTo(sum, rounding!.store), variance, jump);
      else total += variance;
      squaresOfAll += squares;
      partialSquares += part.partialSquares / n;
    }
    if (running) {
      total = running.variance;
      raiseJump(out, at, running.jump);
    }
    if (!rounding && precision.store !== "float32") {
      // Parts of the sum may have been stored on their way (PyTorch allows that on CUDA), up to eight and their running sums,
      // and the product before its bias.
      total += largestStoreVariance(squaresOfAll + mostParts * partialSquares, precision.store);
      if (bias !== 0) total += storeVariance(out.value[at]!, precision.store);
    }
    // A sum that starts from its bias carries the bias through all its roundings; added to a stored product it is exact.
    const carried = rounding?.settings.biasAfter ? 0 : 2 * computeVariance * bounds.at(-1)! * bias * bias;
    out.variance[at] = total + carried;
    // Σ|term| is at most sqrt(n Σ term²).
    if (squaresOfAll * bounds.at(-1)! > float32Max * float32Max || Number.isNaN(squaresOfAll)) {
      out.range ??= new Uint8Array(out.value.length);
      out.range[at] = mayBe.infinite | mayBe.notANumber;
    }
  }

  /** What a float32 sum of so many small terms loses of them beyond chance. */
  #lost({ w, wStart, n: inputs }: Column, r: number, first: number, n: number, { small, largest }: PartialSum): number {
    if (small <= n / 64) return 0;
    const xStart = (this.#first + r) * inputs + first;
    return stagnation(largest, n, (k) => w[wStart + first + k]! * this.x.value[xStart + k]!);
  }
}
