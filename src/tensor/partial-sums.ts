import { KernelMemory } from "./kernel-memory.js";
import { partialSumsModule } from "./partial-sums-module.js";

/** Rows of X [rows, inputs], and how uncertain each element is. */
export interface UncertainRows {
  readonly value: Float64Array;
  readonly variance: Float64Array;
  /** The largest single error in the variance; absent: none stands out. */
  readonly jump?: Float64Array | undefined;
  /** Not 0 where the variance is infinite, whatever it says. */
  readonly range?: Uint8Array | undefined;
}

/** What Σ x_k·w_k came to on its way from the first term to the last: S_k are its partial sums. */
export interface PartialSum {
  readonly sum: number;
  /** Σ (x_k·w_k)². */
  readonly squares: number;
  /** Σ S_k and Σ S_k². */
  readonly partials: number;
  readonly partialSquares: number;
  /** The largest |S_k|. */
  readonly largest: number;
  /** Terms below 2^-18 of the partial sum they were added to: so few ulps that what rounding takes of them is not random. */
  readonly small: number;
  /** Σ w_k²·variance_k, and the largest |w_k|·jump_k. */
  readonly reaching: number;
  readonly jump: number;
}

type Kernel = (x: number, pairs: number, stride: number, w: number, n: number, out: number) => void;

/** Bytes of X in the module's memory at most, unless four rows take more. */
const operandBytes = 2 ** 23;
/** Numbers per term of a pair of rows: values, variances, jumps. */
const uncertainNumbers = 6;
const certainNumbers = 2;
/** Numbers per pair of rows in the results: two of each sum. */
const resultNumbers = 16;

/** Products of a few rows of X with one row of weights after the other, each summed term by term in float64. */
export class PartialSums {
  readonly #memory: KernelMemory<Readonly<Record<"certain" | "uncertain", Kernel>>>;
  #inputs = 0;
  #pairs = 0;
  #numbers = certainNumbers;
  #results: Float64Array = new Float64Array(0);

  /** @throws Error where there is no WebAssembly with SIMD. */
  constructor() {
    this.#memory = new KernelMemory(partialSumsModule, "sums of products");
  }

  /** Rows of so many inputs that may be placed at a time: a multiple of 4. */
  static rowsTogether(inputs: number): number {
    return 4 * Math.max(1, Math.floor(operandBytes / (Math.max(1, inputs) * uncertainNumbers * 4 * 4)));
  }

  /** Takes rows `first` to `first + count - 1` of X [rows, inputs]; whoever uses it next takes others. */
  place(x: UncertainRows, first: number, count: number, inputs: number): void {
    const from = first * inputs;
    const until = from + count * inputs;
    const isUncertain = [x.variance, x.jump, x.range].some((part) => part && holdsAny(part, from, until));
    this.#inputs = inputs;
    this.#pairs = Math.ceil(count / 2);
    this.#numbers = isUncertain ? uncertainNumbers : certainNumbers;
    const placed = this.#memory.floats(0, this.#pairs * inputs * this.#numbers);
    if (count % 2 === 1) placed.fill(0, (this.#pairs - 1) * inputs * this.#numbers);
    for (let r = 0; r < count; r++) {
      let to = (r >> 1) * inputs * this.#numbers + (r & 1);
      for (let i = from + r * inputs; i < from + (r + 1) * inputs; i++, to += this.#numbers) {
        placed[to] = x.value[i]!;
        if (!isUncertain) continue;
        placed[to + 2] = x.range?.[i] ? Infinity : x.variance[i]!;
        placed[to + 4] = x.jump ? x.jump[i]! : 0;
      }
    }
  }

  /**
   * Multiplies the placed rows with the weights from `start` on, in parts.
   * @param bounds first terms of the parts, and the end of the last one.
   */
  multiply(w: Float64Array, start: number, bounds: readonly number[]): void {
    const parts = bounds.length - 1;
    const operands = this.#pairs * this.#inputs * this.#numbers;
    const results = operands + this.#inputs;
    const size = this.#pairs * resultNumbers;
    this.#results = this.#memory.floats(results, parts * size);
    this.#memory.floats(operands, this.#inputs).set(w.subarray(start, start + this.#inputs));
    const kernel = this.#memory.kernels[this.#numbers === uncertainNumbers ? "uncertain" : "certain"];
    for (let p = 0; p < parts; p++) {
      const first = bounds[p]!;
      const n = bounds[p + 1]! - first;
      if (n < 1 || this.#pairs < 1) this.#results.fill(0, p * size, (p + 1) * size);
      else
        kernel(
          first * this.#numbers * 8,
          this.#pairs,
          this.#inputs * this.#numbers * 8,
          (operands + first) * 8,
          n,
          (results + p * size) * 8,
        );
    }
  }

  /** Part `part` of the last products, of the placed row `row`. */
  part(part: number, row: number): PartialSum {
    const results = this.#results;
    const at = (part * this.#pairs + (row >> 1)) * resultNumbers + (row & 1);
    const known = this.#numbers === certainNumbers;
    return {
      sum: results[at]!,
      squares: results[at + 2]!,
      partials: results[at + 4]!,
      partialSquares: results[at + 6]!,
      largest: results[at + 8]!,
      small: results[at + 10]!,
      reaching: known ? 0 : results[at + 12]!,
      jump: known ? 0 : results[at + 14]!,
    };
  }
}

function holdsAny(numbers: Float64Array | Uint8Array, from: number, until: number): boolean {
  for (let i = from; i < until; i++) if (numbers[i] !== 0) return true;
  return false;
}
