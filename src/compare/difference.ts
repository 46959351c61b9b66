import { type DType, floatFormat, unitInLastPlace } from "../tensor/dtype.js";
import type { Decoded } from "./decoded.js";

/** What the element pairs of two values add up to. Sums are over pairs in which both are finite. */
export class Difference {
  /** Pairs that are not equal; NaN equals NaN, an infinity the same infinity. */
  differing = 0;
  /** Differing pairs that one store on each side, to its dtype, does not explain: further apart than half an ulp of each. */
  beyondRounding = 0;
  /** Pairs of which exactly one is finite, or whose non-finite values are not the same. */
  nonFinite = 0;
  firstNonFinite = -1;
  maxAbsError = 0;
  /** Element of the largest error, -1 when there is none. */
  maxAt = -1;
  maxReference = 0;
  maxTarget = 0;
  squares = 0;
  dot = 0;
  readonly #referenceHalfUlp: Float64Array;
  readonly #targetHalfUlp: Float64Array;

  constructor(
    readonly reference: DType,
    readonly target: DType,
  ) {
    this.#referenceHalfUlp = halfUlps(reference);
    this.#targetHalfUlp = halfUlps(target);
  }

  /** Adds a chunk whose first element is element `first` of the value. */
  add(reference: Decoded, target: Decoded, first: number): void {
    if ("words" in reference && "words" in target) {
      this.#addNarrow(reference.values, target.values, reference.words, target.words, first);
    } else this.#addWide(reference.values, target.values, first);
  }

  /** Adds a chunk that is equal on both sides; `squares` is its sum of squares. */
  addEqual(squares: number): void {
    this.dot += squares;
  }

  #addNarrow(a: Float32Array, b: Float32Array, aWords: Uint32Array, bWords: Uint32Array, first: number): void {
    const aHalf = this.#referenceHalfUlp;
    const bHalf = this.#targetHalfUlp;
    let squares = 0;
    let dot = 0;
    let differing = 0;
    let beyond = 0;
    let max = this.maxAbsError;
    let maxAt = -1;
    for (let i = 0; i < a.length; i++) {
      const x = a[i]!;
      const y = b[i]!;
      const d = x - y;
      if (d - d !== 0) {
        this.#addNonFinite(x, y, first + i);
        continue;
      }
      dot += x * y;
      squares += d * d;
      // Added as numbers: whether two elements are equal is a coin toss that no branch predictor wins (half the time).
      differing += Number(d !== 0);
      const error = Math.abs(d);
      if (error > max) {
        max = error;
        maxAt = i;
      }
      beyond += Number(error > aHalf[(aWords[i]! >>> 23) & 255]! + bHalf[(bWords[i]! >>> 23) & 255]!);
    }
    if (maxAt >= 0) this.#setMax(a[maxAt]!, b[maxAt]!, first + maxAt);
    this.squares += squares;
    this.dot += dot;
    this.differing += differing;
    this.beyondRounding += beyond;
  }

  #addWide(a: ArrayLike<number>, b: ArrayLike<number>, first: number): void {
    const aFormat = floatFormat(this.reference);
    const bFormat = floatFormat(this.target);
    for (let i = 0; i < a.length; i++) {
      const x = a[i]!;
      const y = b[i]!;
      const d = x - y;
      if (d - d !== 0) {
        this.#addNonFinite(x, y, first + i);
        continue;
      }
      this.dot += x * y;
      if (d === 0) continue;
      this.differing++;
      this.squares += d * d;
      const error = Math.abs(d);
      if (error > this.maxAbsError) this.#setMax(x, y, first + i);
      const aHalf = aFormat ? unitInLastPlace(x, aFormat) / 2 : 0;
      const bHalf = bFormat ? unitInLastPlace(y, bFormat) / 2 : 0;
      if (error > aHalf + bHalf) this.beyondRounding++;
    }
  }

  #setMax(x: number, y: number, at: number): void {
    this.maxAbsError = Math.abs(x - y);
    this.maxAt = at;
    this.maxReference = x;
    this.maxTarget = y;
  }

  #addNonFinite(x: number, y: number, at: number): void {
    if (Object.is(x, y)) return;
    this.differing++;
    this.beyondRounding++;
    this.nonFinite++;
    if (this.firstNonFinite < 0) this.firstNonFinite = at;
  }
}

/** Half an ulp of `dtype` at numbers whose float32 exponent field is the index, [256]; 0 for integers. */
function halfUlps(dtype: DType): Float64Array {
  const format = floatFormat(dtype);
  return Float64Array.from({ length: 256 }, (_, e) =>
    format ? unitInLastPlace(2 ** Math.max(e - 127, -126), format) / 2 : 0,
  );
}
