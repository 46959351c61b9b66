import type { NumberArray } from "./npy.js";

/** Which rows of which run an array holds: one entry a row. */
export interface CaseRow {
  readonly token: number;
  readonly step: number;
  readonly sequence: number;
  /** Place of the token in its sequence, and what RoPE rotates it by where that is another number. */
  readonly position: number;
  readonly rotary?: number;
}

/** An input of a unit as its op addressed it. */
export interface CaseInput {
  readonly name: string;
  /** Step at whose time a KV cache is read; absent for values that do not change. */
  readonly readAt?: number;
  readonly rows: readonly CaseRow[];
  readonly values: NumberArray;
}

/** Rows of a parameter, all its axes but the last in one. */
export interface CaseParameter {
  readonly name: string;
  readonly shape: readonly number[];
  readonly rows: readonly number[];
  /** undefined where they are too many to copy. */
  readonly values: NumberArray | undefined;
}

/** One op of a unit, in order of execution. */
export interface CaseOp {
  readonly value: string;
  readonly op: string;
  readonly inputs: readonly string[];
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** What a result is held against, element by element. */
export interface Criterion {
  /** rounding: whatever correct kernels round. bits: those of one recipe. equal: nothing is computed, only handed on. */
  readonly by: "rounding" | "bits" | "equal";
  /** The recipe by whose bits it is judged. */
  readonly recipe?: string;
  /** [rows, columns]: what is meant, before it is stored, and how far from it a right result may be; infinite: anywhere. */
  readonly expected: Float64Array;
  readonly farthest: Float64Array;
  /** `farthest` in units of the rounding's standard deviation, and what the mean square in those units may be. */
  readonly sigmas?: number;
  readonly meanSquare?: number;
}

/** One failing unit alone: enough to compute it and to tell whether it is right. */
export interface UnitCase {
  readonly unit: string;
  /** What is wrong, as the verdict says it. */
  readonly statement: string;
  /** The type its output is stored in. */
  readonly dtype: string;
  readonly rows: readonly CaseRow[];
  readonly columns: readonly number[];
  readonly ops: readonly CaseOp[];
  readonly inputs: readonly CaseInput[];
  readonly parameters: readonly CaseParameter[];
  readonly criterion: Criterion;
  /** [rows, columns] as recorded. */
  readonly observed: Float64Array;
  /** How the value was written and read, where that is what went wrong. */
  readonly views?: Readonly<Record<string, unknown>>;
}

/** Whether an output is right by a criterion: the rule that the written tests apply. */
export function isRight({ expected, farthest, sigmas, meanSquare }: Criterion, output: Float64Array): boolean {
  let squares = 0;
  let count = 0;
  for (let i = 0; i < output.length; i++) {
    if (farthest[i] === Infinity) continue;
    const apart = Math.abs(output[i]! - expected[i]!);
    if (!(apart <= farthest[i]!)) return false;
    count++;
    if (sigmas !== undefined && apart > 0) squares += ((apart / farthest[i]!) * sigmas) ** 2;
  }
  return meanSquare === undefined || squares <= meanSquare * count;
}
