import { KernelMemory } from "./kernel-memory.js";
import { partialSumsModule } from "./partial-sums-module.js";

type Kernel = (x: number, pairs: number, stride: number, w: number, n: number, out: number) => void;

/** Where a column of results goes. */
export interface Target {
  readonly values: Float64Array;
  readonly at: number;
  readonly stride: number;
}

/** Bytes of X in the module's memory at most, unless two rows take more. */
const operandBytes = 2 ** 23;

/** Products of rows of X with one row of weights after the other, each summed term by term in float64. */
export class RowProducts {
  readonly #memory: KernelMemory<{ readonly plain: Kernel }>;
  #rows = 0;
  #inputs = 0;

  /** @throws Error where there is no WebAssembly with SIMD. */
  constructor() {
    this.#memory = new KernelMemory(partialSumsModule, "products");
  }

  /** Rows of so many inputs that may be placed at a time. */
  static rowsTogether(inputs: number): number {
    return 2 * Math.max(1, Math.floor(operandBytes / (16 * Math.max(1, inputs))));
  }

  /** Takes the first rows of X [rows, inputs]; whoever uses it next takes others. */
  place(x: Float64Array, rows: number, inputs: number): void {
    this.#rows = rows;
    this.#inputs = inputs;
    const placed = this.#memory.floats(0, (rows + (rows & 1)) * inputs);
    if (rows & 1) placed.fill(0, (rows - 1) * inputs);
    for (let r = 0; r < rows; r++) {
      let to = (r >> 1) * 2 * inputs + (r & 1);
      for (let i = r * inputs; i < (r + 1) * inputs; i++, to += 2) placed[to] = x[i]!;
    }
  }

  /** Multiplies the placed rows with the weights from `start` on: into values[at], values[at + stride], … */
  multiply(w: Float64Array, start: number, { values, at, stride }: Target): void {
    const inputs = this.#inputs;
    const pairs = (this.#rows + 1) >> 1;
    const operands = 2 * pairs * inputs;
    const sums = this.#memory.floats(operands + inputs, 2 * pairs);
    if (inputs > 0) {
      this.#memory.floats(operands, inputs).set(inputs === w.length ? w : w.subarray(start, start + inputs));
      this.#memory.kernels.plain(0, pairs, 16 * inputs, 8 * operands, inputs, 8 * (operands + inputs));
    } else sums.fill(0);
    for (let r = 0, to = at; r < this.#rows; r++, to += stride) values[to] = sums[r]!;
  }
}
