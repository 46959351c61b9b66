import type { ParameterReader } from "../tensor/checkpoint.js";
import type { Arithmetic } from "./arithmetic.js";
import type { Precision } from "./noise.js";
import type { RowTable } from "./rows.js";

/** What a correct kernel may show instead of the value, where the declared types leave their range. */
export const mayBe = { zero: 1, infinite: 2, notANumber: 4 } as const;

/** Elements of one value: `value` and its rounding `variance`, both [rows, columns], row-major. */
export interface Block {
  readonly value: Float64Array;
  /** All zero when the evaluation was asked for values alone. */
  readonly variance: Float64Array;
  /** Bits of `mayBe` per element; absent when every element is in range. */
  readonly range?: Uint8Array | undefined;
  /** The part of `variance` that all elements of a row and head share: it moves them together, as a gain. */
  readonly shared?: Float64Array | undefined;
}

/** What an op may ask for while it computes: elements of its inputs, parameters, the row table. */
export interface OpContext {
  readonly rows: RowTable;
  readonly parameters: ParameterReader;
  readonly arithmetic: Arithmetic;
  readonly precision: Precision;
  /** Whether `variance` and `range` are wanted. */
  readonly noise: boolean;
  /**
   * Elements of input `index`: all columns unless `columns` is given.
   * @param readAt index of the step at whose time a KV cache is read; a cache may change between steps.
   */
  input(index: number, rows: Int32Array, columns?: Int32Array, readAt?: number): Block;
  /** Columns of input `index`. */
  width(index: number): number;
}

/** The meaning of one op. `columns` is the subset of output columns asked for, in that order. */
export interface Op {
  /** Name of the op in the spec's vocabulary: rmsnorm, linear, rope, … */
  readonly kind: string;
  /** The op's settings, as data: reports print them. */
  readonly attributes: Readonly<Record<string, unknown>>;
  evaluate(context: OpContext, rows: Int32Array, columns: Int32Array): Block;
}

/** A block of zeros. */
export function emptyBlock(size: number): {
  value: Float64Array;
  variance: Float64Array;
  range?: Uint8Array;
  shared?: Float64Array;
} {
  return { value: new Float64Array(size), variance: new Float64Array(size) };
}

/** 0 … count-1 as columns or rows. */
export function indices(count: number): Int32Array {
  const out = new Int32Array(count);
  for (let i = 0; i < count; i++) out[i] = i;
  return out;
}

/** Variance of an element, infinite where its range leaves open what it is. */
export function usableVariance(block: Block, i: number): number {
  return block.range?.[i] ? Infinity : block.variance[i]!;
}
