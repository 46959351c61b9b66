import { createHash, type Hash } from "node:crypto";
import type { DType } from "../tensor/dtype.js";
import { ChunkDecoder } from "./decoded.js";
import { Difference } from "./difference.js";
import type { Elements } from "./elements.js";
import { Tally } from "./tally.js";

/** Elements decoded at a time: what is held of a value, whatever its size. */
export const chunkElements = 2 ** 17;

/** One side of a comparison, over all its elements. */
export interface SideMeasure {
  readonly nan: number;
  readonly infinite: number;
  /** Square root of the sum of squares of the finite elements. */
  readonly norm: number;
  /** SHA-256 of the stored bytes in logical order, first 16 hexadecimal digits: order-sensitive. */
  readonly digest: string;
  /** Equal for equal multisets of values, whatever their order and dtype. */
  readonly multisetDigest: string;
}

/** Both sides of a comparison, and what their pairs differ by (undefined when they cannot be paired). */
export interface Measure {
  /** Root of the summed variance of storing every element of the reference once in each side's dtype. */
  readonly noise: number;
  readonly reference: SideMeasure;
  readonly target: SideMeasure;
  readonly difference: Difference | undefined;
}

class Side {
  readonly decoder: ChunkDecoder;
  readonly tally: Tally;
  hash: Hash = createHash("sha256");

  constructor(
    readonly elements: Elements,
    stores: readonly DType[],
    chunk: number,
  ) {
    this.decoder = new ChunkDecoder(elements.dtype, Math.min(chunk, elements.length));
    this.tally = new Tally(elements.dtype, stores, elements.length);
  }

  finish(common?: Tally): SideMeasure {
    this.tally.finish(common);
    const { nan, infinite, squares, multisetDigest } = this.tally;
    const digest = this.hash.digest("hex").slice(0, 16);
    return { nan, infinite, norm: Math.sqrt(squares), digest, multisetDigest };
  }
}

/**
 * Compares two values of equal length element by element, in one pass over both.
 * @param advance is told the bytes read as they are read.
 */
export function measurePair(
  a: Elements,
  b: Elements,
  advance: (bytes: number) => void,
  chunk = chunkElements,
): Measure {
  const stores = [a.dtype, b.dtype];
  const reference = new Side(a, stores, chunk);
  const target = new Side(b, stores, chunk);
  const difference = new Difference(a.dtype, b.dtype);
  // Chunks with the same bytes are added up once, for both sides.
  const common = a.dtype === b.dtype ? new Tally(a.dtype, stores, a.length) : undefined;
  let equalSoFar = common !== undefined;
  for (let first = 0; first < a.length; first += chunk) {
    const count = Math.min(chunk, a.length - first);
    const left = a.read(first, count);
    const right = b.read(first, count);
    const equal = common !== undefined && Buffer.compare(left, right) === 0;
    if (equalSoFar && !equal) target.hash = reference.hash.copy();
    equalSoFar &&= equal;
    reference.hash.update(left);
    if (!equalSoFar) target.hash.update(right);
    const leftDecoded = reference.decoder.decode(left);
    if (equal) {
      common.add(left, leftDecoded);
    } else {
      const rightDecoded = target.decoder.decode(right);
      reference.tally.add(left, leftDecoded);
      target.tally.add(right, rightDecoded);
      difference.add(leftDecoded, rightDecoded, first);
    }
    advance(left.byteLength + right.byteLength);
  }
  if (equalSoFar) target.hash = reference.hash.copy();
  const sides = { reference: reference.finish(common), target: target.finish(common) };
  // What the equal chunks add to the dot product is their sum of squares, known once the tally is complete.
  common?.finish();
  difference.addEqual(common?.squares ?? 0);
  return { ...sides, noise: Math.sqrt(reference.tally.variance), difference };
}

/** Both values by themselves, where their elements cannot be paired. */
export function measureApart(
  a: Elements,
  b: Elements,
  advance: (bytes: number) => void,
  chunk = chunkElements,
): Measure {
  const stores = [a.dtype, b.dtype];
  const [reference, target] = [a, b].map((elements) => {
    const side = new Side(elements, stores, chunk);
    for (let first = 0; first < elements.length; first += chunk) {
      const bytes = elements.read(first, Math.min(chunk, elements.length - first));
      side.hash.update(bytes);
      side.tally.add(bytes, side.decoder.decode(bytes));
      advance(bytes.byteLength);
    }
    return { measure: side.finish(), variance: side.tally.variance };
  });
  const noise = Math.sqrt(reference!.variance);
  return { reference: reference!.measure, target: target!.measure, noise, difference: undefined };
}
