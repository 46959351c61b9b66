import { type Operand, tensorOf } from "./operands.js";
import type { LibraryFunction, TvmLibrary } from "./tvm-library.js";
import { float } from "./values.js";
import { argumentCounts, requireCount } from "./versions.js";

/** FlashInfer's norm module, on bfloat16. */
export class NormModule {
  readonly #norm: LibraryFunction;
  readonly #addNorm: LibraryFunction;

  constructor(library: TvmLibrary, path: string) {
    const functionOf = library.open(path);
    const found = (name: "rmsnorm" | "fused_add_rmsnorm") => {
      const made = functionOf(name);
      requireCount(path, name, made.argumentCount, argumentCounts[name]);
      return made;
    };
    this.#norm = found("rmsnorm");
    this.#addNorm = found("fused_add_rmsnorm");
  }

  /**
   * output = input / rms(input) · weight, in float32 with one rounding: input and output [rows, columns], weight [columns].
   * @throws RangeError naming the operand that does not fit.
   */
  rmsnorm(output: Operand, input: Operand, weight: Operand, epsilon: number, overlaps = false): void {
    const { shape, gains } = normShapes("input", input, weight, epsilon);
    this.#norm.call([
      tensorOf("output", output, { dtype: "bfloat16", shape }),
      tensorOf("input", input, { dtype: "bfloat16", shape }),
      gains,
      float(epsilon),
      overlaps,
    ]);
  }

  /** residual becomes input + residual, and input the norm of the sum before it was rounded: both [rows, columns]. */
  fusedAddRmsnorm(input: Operand, residual: Operand, weight: Operand, epsilon: number, overlaps = false): void {
    const { shape, gains } = normShapes("input", input, weight, epsilon);
    this.#addNorm.call([
      tensorOf("input", input, { dtype: "bfloat16", shape }),
      tensorOf("residual", residual, { dtype: "bfloat16", shape }),
      gains,
      float(epsilon),
      overlaps,
    ]);
  }
}

function normShapes(name: string, input: Operand, weight: Operand, epsilon: number) {
  const { shape } = input;
  if (shape.length !== 2)
    throw new RangeError(`${name}: FlashInfer expects [rows, columns], found [${shape.join(", ")}]`);
  if (shape[0] === 0) throw new RangeError(`${name}: FlashInfer expects at least one row`);
  if (!(epsilon >= 0)) throw new RangeError(`epsilon ${epsilon}: expected 0 or more`);
  return { shape, gains: tensorOf("weight", weight, { dtype: "bfloat16", shape: [shape[1]], dense: true }) };
}
