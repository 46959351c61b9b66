import { storeVariance } from "../spec/noise.js";
import { byteWidth, type DType } from "../tensor/dtype.js";
import { type Decoded, float32Words, isNarrow, smallCodes } from "./decoded.js";

/**
 * What one side's elements add up to, whatever their order: norm, rounding of their stores, non-finite counts, and a
 * multiset digest (the sum, modulo 2^32 in each of two lanes, of a hash of every value), exact in any order of summation.
 *
 * The hash is of the value, not of its bytes: 1.0 in bfloat16 and in float32 count as the same, as do 0 and -0, and all NaN.
 */
export class Tally {
  nan = 0;
  infinite = 0;
  /** Sum of squares of the finite elements. */
  squares = 0;
  /** Variance of storing every finite element once in each of `stores`. */
  variance = 0;
  #lane1 = 0;
  #lane2 = 0;
  readonly #counts: Float64Array | undefined;
  /** Elements by exponent, those of even places before those of odd ones: neighbours then seldom wait for one counter. */
  readonly #exponents: Float64Array | undefined;

  /**
   * @param stores dtypes whose rounding is added up: those of both sides, for the reference.
   * @param length elements that will be added.
   */
  constructor(
    readonly dtype: DType,
    readonly stores: readonly DType[],
    length: number,
  ) {
    const codes = 2 ** (8 * byteWidth(dtype));
    // Counting bit patterns costs a pass over all of them at the end.
    if (byteWidth(dtype) <= 2 && length >= codes) this.#counts = new Float64Array(codes);
    else if (isNarrow(dtype)) this.#exponents = new Float64Array(512);
  }

  /** Adds a chunk: its bytes and the same chunk decoded. */
  add(bytes: Uint8Array, decoded: Decoded): void {
    if (this.#counts) count(smallCodes(bytes, this.dtype), this.#counts);
    else if ("words" in decoded) this.#addNarrow(decoded.values, decoded.words, this.#exponents!);
    else for (const value of decoded.values) this.#addWide(value);
  }

  /** Adds what another tally of the same dtype has, and is then complete. */
  finish(common?: Tally): void {
    if (common) this.#merge(common);
    if (this.#counts) this.#weighCounts(this.#counts);
    if (this.#exponents) {
      for (let e = 0; e < 255; e++)
        this.variance += (this.#exponents[e]! + this.#exponents[e + 256]!) * this.#storeVariance(2 ** (e - 127));
    }
  }

  #merge(common: Tally): void {
    if (this.#counts) addTo(this.#counts, common.#counts!);
    if (this.#exponents) addTo(this.#exponents, common.#exponents!);
    this.nan += common.nan;
    this.infinite += common.infinite;
    this.squares += common.squares;
    this.variance += common.variance;
    this.#lane1 = (this.#lane1 + common.#lane1) | 0;
    this.#lane2 = (this.#lane2 + common.#lane2) | 0;
  }

  /** 16 hexadecimal digits; equal multisets of values have equal digests. */
  get multisetDigest(): string {
    return [this.#lane1, this.#lane2].map((lane) => (lane >>> 0).toString(16).padStart(8, "0")).join("");
  }

  /** Long tensors of 8- and 16-bit types are counted by bit pattern, so each pattern is looked at once. */
  #weighCounts(counts: Float64Array): void {
    const words = float32Words(this.dtype);
    const values = new Float32Array(words.buffer);
    for (let code = 0; code < counts.length; code++) {
      const n = counts[code]!;
      if (n === 0) continue;
      const value = values[code]!;
      const hash = mix(canonicalWord(words[code]!));
      // The product modulo 2^32 needs the count modulo 2^32 alone.
      this.#lane1 = (this.#lane1 + Math.imul(n % 2 ** 32, hash)) | 0;
      this.#lane2 = (this.#lane2 + Math.imul(n % 2 ** 32, second(hash))) | 0;
      if (Number.isNaN(value)) this.nan += n;
      else if (!Number.isFinite(value)) this.infinite += n;
      else {
        this.squares += n * value * value;
        this.variance += n * this.#storeVariance(value);
      }
    }
  }

  #storeVariance(value: number): number {
    let variance = 0;
    for (const dtype of this.stores) variance += storeVariance(value, dtype);
    return variance;
  }

  #addNarrow(values: Float32Array, words: Uint32Array, exponents: Float64Array): void {
    let lane1 = 0;
    let lane2 = 0;
    let squares = 0;
    for (let i = 0; i < words.length; i++) {
      let word = words[i]!;
      const exponent = (word >>> 23) & 255;
      exponents[exponent + ((i & 1) << 8)]!++;
      if (exponent === 255) {
        if (Number.isNaN(values[i]!)) this.nan++;
        else this.infinite++;
        word = canonicalWord(word);
      } else {
        const value = values[i]!;
        squares += value * value;
        if (word === 0x80000000) word = 0;
      }
      const hash = mix(word);
      lane1 = (lane1 + hash) | 0;
      lane2 = (lane2 + second(hash)) | 0;
    }
    this.#lane1 = (this.#lane1 + lane1) | 0;
    this.#lane2 = (this.#lane2 + lane2) | 0;
    this.squares += squares;
  }

  #addWide(value: number): void {
    if (Number.isNaN(value)) this.nan++;
    else if (!Number.isFinite(value)) this.infinite++;
    else {
      this.squares += value * value;
      this.variance += this.#storeVariance(value);
    }
    wideScratch[0] = value;
    let word: number;
    let high = 0;
    if (Math.fround(value) === value || Number.isNaN(value)) {
      narrowScratch[0] = value;
      word = canonicalWord(narrowWord[0]!);
    } else {
      word = wideWords[0]!;
      high = second(mix(wideWords[1]! ^ 0x5bd1e995));
    }
    const hash = mix(word ^ high);
    this.#lane1 = (this.#lane1 + hash) | 0;
    this.#lane2 = (this.#lane2 + (second(hash) ^ high)) | 0;
  }
}

const wideScratch = new Float64Array(1);
const wideWords = new Uint32Array(wideScratch.buffer);
const narrowScratch = new Float32Array(1);
const narrowWord = new Uint32Array(narrowScratch.buffer);

function addTo(sums: Float64Array, terms: Float64Array): void {
  for (let i = 0; i < sums.length; i++) sums[i]! += terms[i]!;
}

function count(codes: Uint8Array | Uint16Array, counts: Float64Array): void {
  for (let i = 0; i < codes.length; i++) counts[codes[i]!]!++;
}

/** One bit pattern for 0 and -0, and one for every NaN. */
function canonicalWord(word: number): number {
  if (word === 0x80000000) return 0;
  return (word & 0x7fffffff) > 0x7f800000 ? 0x7fc00000 : word;
}

/** The finalizer of MurmurHash3, a bijection of 32 bits, after an odd multiplier and an offset. */
function mix(word: number): number {
  let h = (Math.imul(word, 0x9e3779b1) + 0x2545f491) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** The second lane, from the first: its product with a number that its own upper bits choose is not linear in it. */
function second(h: number): number {
  return Math.imul(h, (h >>> 9) | 1) ^ (h >>> 16);
}
