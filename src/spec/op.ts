import type { ParameterReader } from "../tensor/checkpoint.js";
import { type DType, type FloatFormat, floatFormat, unitInLastPlace } from "../tensor/dtype.js";
import { floats } from "../tensor/scratch.js";
import type { Arithmetic } from "./arithmetic.js";
import { flipVariance, type Precision } from "./noise.js";
import type { Recipe, RecipeSettings } from "./recipe.js";
import type { RowTable } from "./rows.js";

/** What a correct kernel may show instead of the value, where the declared types leave their range. */
export const mayBe = { zero: 1, infinite: 2, notANumber: 4 } as const;

/** Elements of one value, [rows, columns], row-major. */
export interface Block {
  readonly value: Float64Array;
  /**
   * Second moment of what rounding may make of each element; empty when the evaluation was asked for values alone.
   * Without a recipe it covers every legal rounding, under a recipe only the order of summation and library functions.
   */
  readonly variance: Float64Array;
  /** Largest error that a single flipped rounding inside the unit can cause; absent: none stands out. */
  readonly jump?: Float64Array | undefined;
  /** Bits of `mayBe` per element; absent when every element is in range. */
  readonly range?: Uint8Array | undefined;
}

/** The rounding of one op under a recipe: `store` is the type between ops, `settings` the op's own. */
export interface OpRounding {
  readonly store: DType;
  readonly settings: RecipeSettings;
}

/** What an op may ask for while it computes: elements of its inputs, parameters, the row table. */
export interface OpContext {
  readonly rows: RowTable;
  readonly parameters: ParameterReader;
  readonly arithmetic: Arithmetic;
  readonly precision: Precision;
  /** Whether `variance` and `range` are wanted. */
  readonly noise: boolean;
  /** The rounding to emulate; absent: the op's exact meaning, with a variance that covers every legal rounding. */
  readonly rounding?: OpRounding | undefined;
  /**
   * Elements of input `index`: all columns unless `columns` is given.
   * @param readAt index of the step at whose time a KV cache is read; a cache may change between steps.
   */
  input(index: number, rows: Int32Array, columns?: Int32Array, readAt?: number): Block;
  /** Columns of input `index`. */
  width(index: number): number;
  /** What was recorded of the op's own value in a row: asked by ops of which rounding leaves open which result is right. */
  recorded?(row: number): Float64Array | undefined;
  /** The same where it was not recorded, as far as what follows of it tells. */
  settled?(row: number): Float64Array | undefined;
}

/** The meaning of one op. `columns` is the subset of output columns asked for, in that order. */
export interface Op {
  /** Name of the op in the spec's vocabulary: rmsnorm, linear, rope, … */
  readonly kind: string;
  /** The op's settings, as data: reports print them. */
  readonly attributes: Readonly<Record<string, unknown>>;
  /** Ways to round inside the op, the commonest first; absent: nothing is rounded inside it. */
  readonly recipes?: readonly Recipe[] | undefined;
  /** Whether the op's values are as they are stored already: a cache with a type of its own. */
  readonly stored?: boolean | undefined;
  /** The type its values are stored in, whatever the run stores between ops: a router in float32. */
  readonly dtype?: DType | undefined;
  /** Elements as the op makes them, before they are stored. */
  evaluate(context: OpContext, rows: Int32Array, columns: Int32Array): Block;
}

/** A block that is being filled. */
export interface MutableBlock {
  value: Float64Array;
  variance: Float64Array;
  jump?: Float64Array | undefined;
  range?: Uint8Array | undefined;
}

/** A block of zeros; its variance is empty when no noise is wanted. */
export function emptyBlock(size: number, noise: boolean): MutableBlock {
  return { value: floats(size), variance: floats(noise ? size : 0), jump: undefined, range: undefined };
}

/** 0 … count-1 as columns or rows. */
export function indices(count: number): Int32Array {
  const out = new Int32Array(count);
  for (let i = 0; i < count; i++) out[i] = i;
  return out;
}

/** Whether `columns` are 0 … count-1, in order. */
export function areAll(columns: Int32Array, count: number): boolean {
  if (columns.length !== count) return false;
  for (let i = 0; i < count; i++) if (columns[i] !== i) return false;
  return true;
}

/** Variance of an element, infinite where its range leaves open what it is. */
export function usableVariance(block: Block, i: number): number {
  return block.range?.[i] ? Infinity : block.variance[i]!;
}

/** Marks that the error of element `i` may contain a single one of this size. */
export function raiseJump(block: MutableBlock, i: number, jump: number): void {
  if (!(jump > 0)) return;
  block.jump ??= floats(block.value.length);
  if (jump > block.jump[i]!) block.jump[i] = jump;
}

/** What storing an uncertain number that goes into element `i` leaves of its variance: nothing, or a flip to a neighbour. */
export function storedVariance(
  block: MutableBlock,
  i: number,
  value: number,
  variance: number,
  store: DType | FloatFormat,
): number {
  const after = flipVariance(value, variance, store, block.jump?.[i]);
  const format = typeof store === "string" ? floatFormat(store) : store;
  if (after > 0 && format) raiseJump(block, i, unitInLastPlace(value, format));
  return after;
}

/** 0 · ∞ = 0: what does not contribute cannot blur the result. */
export function scaled(factor: number, variance: number): number {
  return factor === 0 ? 0 : factor * variance;
}
