import { partialSumsModule } from "./partial-sums-module.js";

type Kernel = (x: number, pairs: number, stride: number, w: number, n: number, out: number) => void;

/** Where a column of results goes. */
export interface Target {
  readonly values: Float64Array;
  readonly at: number;
  readonly stride: number;
}

const pageBytes = 2 ** 16;
/** Bytes of X in the module's memory at most, unless two rows take more. */
const operandBytes = 2 ** 23;

/** Products of rows of X with one row of weights after the other, each summed term by term in float64. */
export class RowProducts {
  readonly #memory: WebAssembly.Memory;
  readonly #kernel: Kernel;
  #rows = 0;
  #inputs = 0;

  /** @throws Error where there is no WebAssembly with SIMD. */
  constructor() {
    const bytes = Buffer.from(partialSumsModule, "base64");
    if (typeof WebAssembly === "undefined" || !WebAssembly.validate(bytes)) {
      throw new Error("products need WebAssembly with SIMD, which Node has from version 16.4 on");
    }
    this.#memory = new WebAssembly.Memory({ initial: 1 });
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { memory: { memory: this.#memory } });
    this.#kernel = instance.exports.plain as unknown as Kernel;
  }

  /** Rows of so many inputs that may be placed at a time. */
  static rowsTogether(inputs: number): number {
    return 2 * Math.max(1, Math.floor(operandBytes / (16 * Math.max(1, inputs))));
  }

  /** Takes the first rows of X [rows, inputs]; whoever uses it next takes others. */
  place(x: Float64Array, rows: number, inputs: number): void {
    this.#rows = rows;
    this.#inputs = inputs;
    const placed = this.#floats(0, (rows + (rows & 1)) * inputs);
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
    const sums = this.#floats(operands + inputs, 2 * pairs);
    if (inputs > 0) {
      this.#floats(operands, inputs).set(inputs === w.length ? w : w.subarray(start, start + inputs));
      this.#kernel(0, pairs, 16 * inputs, 8 * operands, inputs, 8 * (operands + inputs));
    } else sums.fill(0);
    for (let r = 0, to = at; r < this.#rows; r++, to += stride) values[to] = sums[r]!;
  }

  /** `count` numbers of the module's memory from number `first` on. */
  #floats(first: number, count: number): Float64Array {
    const missing = (first + count) * 8 - this.#memory.buffer.byteLength;
    if (missing > 0) this.#memory.grow(Math.ceil(missing / pageBytes));
    return new Float64Array(this.#memory.buffer, first * 8, count);
  }
}
