import type { ParameterReader } from "../tensor/checkpoint.js";

/** Where the matrices of all experts of one product lie. */
export interface ExpertWeights {
  /** A parameter [out, in] of each expert, or one of them all: [experts, out, in], or [experts, in, out] if `transposed`. */
  readonly weight: string | readonly string[];
  /** A parameter [out] of each expert, or one of them all [experts, out]. */
  readonly bias?: string | readonly string[] | undefined;
  readonly transposed?: boolean | undefined;
  /** Row of an expert's matrix that makes output column c: first + step · c. Gate and up may share one matrix. */
  readonly first?: number | undefined;
  readonly step?: number | undefined;
}

/** Elements that are decoded at a time of a transposed matrix. */
const piece = 2 ** 20;

/** The rows of one expert's matrix that make the output columns asked for: [columns, inputs]. */
export function expertRows(
  parameters: ParameterReader,
  { weight, transposed, first = 0, step = 1 }: ExpertWeights,
  expert: number,
  columns: Int32Array,
  inputs: number,
): Float64Array {
  const own = typeof weight === "string" ? undefined : weight[expert]!;
  const out = new Float64Array(columns.length * inputs);
  if (own === undefined && transposed) {
    fromTransposed(
      parameters,
      weight as string,
      expert,
      Int32Array.from(columns, (c) => first + step * c),
      inputs,
      out,
    );
    return out;
  }
  for (let c = 0; c < columns.length; ) {
    // Neighbouring rows are read at once.
    let end = c + 1;
    while (step === 1 && end < columns.length && columns[end] === columns[end - 1]! + 1) end++;
    const row = first + step * columns[c]!;
    const values =
      own === undefined
        ? elementsOf(parameters, weight as string, expert, row * inputs, (end - c) * inputs)
        : parameters.rows(own, row, end - c);
    out.set(values, c * inputs);
    c = end;
  }
  return out;
}

/** The bias of each output column asked for; undefined where the product has none. */
export function expertBias(
  parameters: ParameterReader,
  { bias, first = 0, step = 1 }: ExpertWeights,
  expert: number,
  columns: Int32Array,
): Float64Array | undefined {
  if (bias === undefined) return undefined;
  const values = typeof bias === "string" ? parameters.rows(bias, expert, 1) : parameters.rows(bias[expert]!, 0, 1);
  return Float64Array.from(columns, (c) => values[first + step * c]!);
}

function fromTransposed(
  parameters: ParameterReader,
  weight: string,
  expert: number,
  rows: Int32Array,
  inputs: number,
  out: Float64Array,
): void {
  const width = parameters.shape(weight)!.at(-1)!;
  const perPiece = Math.max(1, Math.floor(piece / width));
  for (let first = 0; first < inputs; first += perPiece) {
    const count = Math.min(perPiece, inputs - first);
    const values = elementsOf(parameters, weight, expert, first * width, count * width);
    for (let i = 0; i < count; i++) {
      for (let c = 0; c < rows.length; c++) out[c * inputs + first + i] = values[i * width + rows[c]!]!;
    }
  }
}

/** Elements of one expert's part of a parameter of them all. */
function elementsOf(
  parameters: ParameterReader,
  weight: string,
  expert: number,
  first: number,
  count: number,
): Float64Array {
  const size = parameters
    .shape(weight)!
    .slice(1)
    .reduce((product, n) => product * n, 1);
  if (parameters.elements) return parameters.elements(weight, expert * size + first, count);
  return parameters.rows(weight, expert, 1).subarray(first, first + count);
}
