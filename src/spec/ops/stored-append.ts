import { type DType, floatFormat } from "../../tensor/dtype.js";
import { magnitudesOf, quantise } from "../../tensor/scaled-type.js";
import { type MutableBlock, mayBe, type Op, raiseJump } from "../op.js";
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
    stored: true,
    evaluate(context, rows, columns) {
      const read = plain.evaluate(context, rows, columns);
      const out: MutableBlock = {
        value: read.value,
        variance: read.variance,
        ...(read.range && { range: read.range }),
      };
      const { value, variance } = out;
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
        const [from, to] = magnitudesOf(kept, dtype);
        const ulp = (to - from) * scale;
        variance[i] = off + flips(meant / scale, (variance[i]! + off) / scale ** 2, from, to) * scale ** 2;
        if (variance[i]! > off && Number.isFinite(ulp)) raiseJump(out, i, ulp);
        const format = floatFormat(dtype);
        if (format && Math.abs(meant / scale) > format.max) {
          out.range ??= new Uint8Array(value.length);
          out.range[i]! |= mayBe.infinite | mayBe.notANumber;
        }
      }
      return out;
    },
  };
}

/** Errors beyond this many sigma do not happen. */
const farthest = 9;

/** Second moment of the error of what is kept: numbers from `from` to `to` are kept alike, the next ones an ulp away. */
function flips(x: number, variance: number, from: number, to: number): number {
  if (variance === 0 || !Number.isFinite(variance) || !Number.isFinite(to)) return variance;
  const ulp = to - from;
  const nearest = Math.min(Math.abs(Math.abs(x) - from), Math.abs(to - Math.abs(x)));
  if (nearest > farthest * Math.sqrt(variance)) return 0;
  return Math.max(variance, ulp ** 2) * Math.exp(-(nearest ** 2) / (2 * variance));
}

/** Under an unknown scale an ulp is known relative to the value alone, and for integers not at all. */
function unknownRounding(value: number, dtype: DType): number {
  const format = floatFormat(dtype);
  return format ? (value * 2 ** -format.fractionBits) ** 2 / 12 : Infinity;
}
