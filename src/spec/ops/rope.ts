import { angleVariance, computeVariance, storeVariance } from "../noise.js";
import { emptyBlock, type Op, usableVariance } from "../op.js";

export interface RopeAttributes {
  readonly headDim: number;
  /** Channels of a head that rotate; the rest pass through. */
  readonly rotaryDim: number;
  /** Angle per position of each pair, [rotaryDim / 2]. RoPE scaling lives here and in `attentionFactor` alone. */
  readonly inverseFrequencies: Float64Array;
  /** Multiplies cos and sin (YaRN). */
  readonly attentionFactor: number;
  /** "half": channel j pairs with j + rotaryDim/2 (NeoX, Hugging Face); "interleaved": 2j with 2j + 1 (GPT-J). */
  readonly pairing: "half" | "interleaved";
  /** Frequency of each channel, [rotaryDim], where a rewrite gives the two channels of a pair different ones. */
  readonly channelFrequencies?: Float64Array;
  /** Position of a row; derived from token counts unless a rewrite says otherwise. */
  readonly positionOf?: (row: number, position: number) => number;
  /** Coefficients of a rewrite: y = c·cos·x - s·sin·x' with (c, s) = (1, 1) as the meaning. */
  readonly cosine?: (cos: number, sin: number) => number;
  readonly sine?: (cos: number, sin: number) => number;
}

/**
 * Rotates channel pairs of every head by position × inverse frequency.
 * Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
 */
export function rope(attributes: RopeAttributes): Op {
  const { headDim, rotaryDim, inverseFrequencies, attentionFactor, pairing } = attributes;
  const half = rotaryDim / 2;
  const cosine = attributes.cosine ?? ((cos: number) => cos);
  const sine = attributes.sine ?? ((_: number, sin: number) => sin);
  return {
    kind: "rope",
    attributes: { ...attributes },
    evaluate({ input, width, rows: table, arithmetic, precision, noise }, rows, columns) {
      const inputColumns = width(0);
      const x = input(0, rows);
      const out = emptyBlock(rows.length * columns.length);
      const ofAngle = noise ? angleVariance(precision) : 0;
      for (let r = 0; r < rows.length; r++) {
        const derived = table.rotaryPosition(rows[r]!);
        const position = attributes.positionOf ? attributes.positionOf(rows[r]!, derived) : derived;
        for (let c = 0; c < columns.length; c++) {
          const column = columns[c]!;
          const at = r * columns.length + c;
          const i = r * inputColumns + column;
          const channel = column % headDim;
          if (channel >= rotaryDim) {
            out.value[at] = x.value[i]!;
            if (noise) out.variance[at] = usableVariance(x, i);
            continue;
          }
          const { pair, partner, sign } = pairOf(channel, half, pairing);
          const p = r * inputColumns + column - channel + partner;
          const angle = position * (attributes.channelFrequencies?.[channel] ?? inverseFrequencies[pair]!);
          const cosRaw = Math.cos(angle) * attentionFactor;
          const sinRaw = Math.sin(angle) * attentionFactor;
          const cos = arithmetic.between(cosine(cosRaw, sinRaw));
          const sin = arithmetic.between(sine(cosRaw, sinRaw));
          const own = arithmetic.between(x.value[i]! * cos);
          const other = arithmetic.between(x.value[p]! * sin) * sign;
          out.value[at] = own + other;
          if (!noise) continue;
          const store = precision.store;
          const turn = angle * angle * ofAngle;
          const cosVariance = storeVariance(cos, store) + sin * sin * turn + cos * cos * computeVariance;
          const sinVariance = storeVariance(sin, store) + cos * cos * turn + sin * sin * computeVariance;
          const xi = x.value[i]!;
          const xp = x.value[p]!;
          out.variance[at] =
            product(cos * cos, usableVariance(x, i)) +
            product(sin * sin, usableVariance(x, p)) +
            xi * xi * cosVariance +
            xp * xp * sinVariance +
            storeVariance(own, store) +
            storeVariance(other, store);
        }
      }
      return out;
    },
  };
}

/** 0 · ∞ = 0: a partner that does not contribute cannot blur the result. */
function product(a: number, b: number): number {
  return a === 0 ? 0 : a * b;
}

function pairOf(channel: number, half: number, pairing: RopeAttributes["pairing"]) {
  if (pairing === "half") {
    const pair = channel % half;
    return channel < half ? { pair, partner: channel + half, sign: -1 } : { pair, partner: channel - half, sign: 1 };
  }
  const pair = channel >> 1;
  return channel % 2 === 0 ? { pair, partner: channel + 1, sign: -1 } : { pair, partner: channel - 1, sign: 1 };
}
