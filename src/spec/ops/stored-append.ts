import { type DType, floatFormat } from "../../tensor/dtype.js";
import { magnitudesOf, quantise } from "../../tensor/scaled-type.js";
import { mayBe, type Op } from "../op.js";
import { append } from "./append.js";

export interface StoredAppendAttributes {
  /** Type of the cache. */
  readonly dtype: DType;
  /** Readers multiply by it what the cache keeps; undefined when nobody knows it. */
  readonly scale: number | undefined;
  /** How far the scale may be off, relative. */
  readonly error: number;
}

/**
 * Appends a row to a KV cache of a narrower type: readers get round(value / scale) × scale. A value near the middle
 * between two numbers of the cache may go to either; beyond the type's range it may saturate or not.
 */
export function storedAppend(attributes: StoredAppendAttributes): Op {
  const plain = append();
  const { dtype, scale, error } = attributes;
  return {
    kind: plain.kind,
    attributes: { ...attributes },
    evaluate(context, rows, columns) {
      const out = plain.evaluate(context, rows, columns);
      const { value, variance } = out;
      let range = out.range;
      for (let i = 0; i < value.length; i++) {
        const meant = value[i]!;
        if (scale === undefined) {
          if (context.noise) variance[i]! += unknownRounding(meant, dtype);
          continue;
        }
        const kept = quantise(meant, { dtype, scale });
        value[i] = kept * scale;
        if (!context.noise) continue;
        const off = (meant * error) ** 2;
        const flipped = flips(meant / scale, (variance[i]! + off) / scale ** 2, kept, dtype) * scale ** 2;
        variance[i] = flipped + shared * off;
        const format = floatFormat(dtype);
        if (format && Math.abs(meant / scale) > format.max) {
          range ??= new Uint8Array(value.length);
          range[i]! |= mayBe.infinite | mayBe.notANumber;
        }
      }
      return { ...out, range };
    },
  };
}

/** Errors beyond this many sigma do not happen. */
const farthest = 6;

/** All queries read the same kept numbers: what those are off by does not average out over rows, as other rounding does. */
const shared = 16;

/** Variance of what is kept for a number known to within `variance`: it moves by a whole ulp, if it moves. */
function flips(x: number, variance: number, kept: number, dtype: DType): number {
  const [from, to] = magnitudesOf(kept, dtype);
  if (variance === 0 || !Number.isFinite(variance) || !Number.isFinite(to)) return variance;
  const ulp = to - from;
  if (variance > ulp ** 2) return shared * (variance + ulp ** 2 / 12);
  const nearest = Math.min(Math.abs(Math.abs(x) - from), Math.abs(to - Math.abs(x)));
  if (nearest > farthest * Math.sqrt(variance)) return 0;
  // However unlikely it is, an ulp counts as no more than the farthest error.
  return shared * ulp ** 2 * Math.max(0.5 * Math.exp(-(nearest ** 2) / (2 * variance)), farthest ** -2);
}

/** Under an unknown scale an ulp is known relative to the value alone, and for integers not at all. */
function unknownRounding(value: number, dtype: DType): number {
  const format = floatFormat(dtype);
  return format ? (shared * (value * 2 ** -format.fractionBits) ** 2) / 12 : Infinity;
}
