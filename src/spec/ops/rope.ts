import { floatFormat, roundTo, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll, roundToFormat } from "../../tensor/rounding.js";
import { angleVariance, computeVariance, flipVariance, functionVariance, storeVariance, tf32Format } from "../noise.js";
import {
  type Block,
  emptyBlock,
  type MutableBlock,
  type Op,
  type OpContext,
  raiseJump,
  scaled,
  usableVariance,
} from "../op.js";
import type { Recipe } from "../recipe.js";

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
  /** Type that positions, frequencies, angles and their cosines pass through, where a rewrite says so. */
  readonly angleType?: "bfloat16" | "float16";
  /** Frequency of each channel, [rotaryDim], where a rewrite gives the two channels of a pair different ones. */
  readonly channelFrequencies?: Float64Array;
  /** Position of a row; derived from token counts unless a rewrite says otherwise. */
  readonly positionOf?: (row: number, position: number) => number;
  /** Coefficients of a rewrite: y = c·cos·x - s·sin·x' with (c, s) = (1, 1) as the meaning. */
  readonly cosine?: (cos: number, sin: number) => number;
  readonly sine?: (cos: number, sin: number) => number;
}

/** Where RoPE rounds: `table` stores cos and sin, `products` each of the two products; `angle` is how angles are computed. */
export const ropeRecipes: readonly Recipe[] = [
  {
    id: "rounded-table-and-products",
    title: "cos and sin are rounded, both products and their sum",
    known: ["Hugging Face", "vLLM's native rotary embedding"],
    settings: { table: true, products: true, angle: "float32" },
  },
  {
    id: "float32",
    title: "float32 throughout, one rounding",
    known: ["FlashInfer", "Faultline's kernels"],
    settings: { table: false, products: false, angle: "float32" },
  },
  {
    id: "rounded-table",
    title: "cos and sin are rounded, the rotation in float32, one rounding",
    known: ["kernels with a 16-bit cos/sin cache"],
    settings: { table: true, products: false, angle: "float32" },
  },
  {
    id: "tf32-angles",
    title: "angles from a TF32 product",
    known: ["Hugging Face with TF32 allowed"],
    settings: { table: false, products: false, angle: "tf32" },
  },
];

/**
 * Rotates channel pairs of every head by position × inverse frequency.
 * Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding", 2021.
 */
export function rope(attributes: RopeAttributes): Op {
  const { headDim, rotaryDim, pairing } = attributes;
  const half = rotaryDim / 2;
  return {
    kind: "rope",
    attributes: { ...attributes },
    recipes: ropeRecipes,
    evaluate(context, rows, columns) {
      const { input, width, rows: table, noise, rounding } = context;
      const inputColumns = width(0);
      const x = input(0, rows);
      const out = emptyBlock(rows.length * columns.length, noise);
      const tables = new Map<number, Turns>();
      const products = new Float64Array(2 * columns.length);
      for (let r = 0; r < rows.length; r++) {
        const derived = table.rotaryPosition(rows[r]!);
        const position = attributes.positionOf ? attributes.positionOf(rows[r]!, derived) : derived;
        let turns = tables.get(position);
        if (!turns) {
          turns = turnsOf(attributes, position, context);
          tables.set(position, turns);
        }
        const from = r * inputColumns;
        for (let c = 0; c < columns.length; c++) {
          const column = columns[c]!;
          const channel = column % headDim;
          const value = x.value[from + column]!;
          if (channel >= rotaryDim) {
            products[2 * c] = value;
            products[2 * c + 1] = 0;
            continue;
          }
          const partner = partnerOf(channel, half, pairing);
          products[2 * c] = value * turns.cos[channel]!;
          products[2 * c + 1] = x.value[from + column - channel + partner]! * turns.sin[channel]!;
          if (noise)
            elementNoise(
              context,
              x,
              from + column,
              from + column - channel + partner,
              turns,
              channel,
              out,
              r * columns.length + c,
            );
        }
        if (rounding?.settings.products) roundAll(products, rounding.store);
        for (let c = 0; c < columns.length; c++) {
          out.value[r * columns.length + c] = products[2 * c]! + products[2 * c + 1]!;
          if (noise && columns[c]! % headDim >= rotaryDim)
            out.variance[r * columns.length + c] = usableVariance(x, from + columns[c]!);
        }
      }
      return out;
    },
  };
}

/** The two coefficients of every channel at one position: of itself, and of its partner with its sign. */
interface Turns {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
  readonly cosVariance: Float64Array;
  readonly sinVariance: Float64Array;
}

function turnsOf(a: RopeAttributes, position: number, { rounding, precision }: OpContext): Turns {
  const { rotaryDim, inverseFrequencies, attentionFactor, pairing } = a;
  const cos = new Float64Array(rotaryDim);
  const sin = new Float64Array(rotaryDim);
  const cosVariance = new Float64Array(rotaryDim);
  const sinVariance = new Float64Array(rotaryDim);
  const half = rotaryDim / 2;
  const emulated = rounding !== undefined && precision.compute !== "float64";
  const ofAngle = angleVariance(emulated ? { ...precision, compute: "float32" } : precision);
  for (let channel = 0; channel < rotaryDim; channel++) {
    const pair = pairing === "half" ? channel % half : channel >> 1;
    const first = pairing === "half" ? channel < half : channel % 2 === 0;
    const frequency = a.channelFrequencies?.[channel] ?? inverseFrequencies[pair]!;
    const angle = a.angleType
      ? roundTo(roundTo(position, a.angleType) * roundTo(frequency, a.angleType), a.angleType)
      : emulated
        ? computedAngle(position, frequency, rounding.settings.angle === "tf32")
        : position * frequency;
    const [cosOne, sinOne] = [Math.cos(angle), Math.sin(angle)];
    const cosRaw = (a.angleType ? roundTo(cosOne, a.angleType) : cosOne) * attentionFactor;
    const sinRaw = (a.angleType ? roundTo(sinOne, a.angleType) : sinOne) * attentionFactor;
    cos[channel] = a.cosine ? a.cosine(cosRaw, sinRaw) : cosRaw;
    sin[channel] = (a.sine ? a.sine(cosRaw, sinRaw) : sinRaw) * (first ? -1 : 1);
    if (a.angleType) {
      cosVariance[channel] = flipVariance(cosOne, functionVariance, a.angleType);
      sinVariance[channel] = flipVariance(sinOne, functionVariance, a.angleType);
      continue;
    }
    const turn = angle * angle * ofAngle;
    cosVariance[channel] = sinRaw * sinRaw * turn + cosRaw * cosRaw * computeVariance;
    sinVariance[channel] = cosRaw * cosRaw * turn + sinRaw * sinRaw * computeVariance;
  }
  for (const [values, variances] of [
    [cos, cosVariance],
    [sin, sinVariance],
  ] as const) {
    for (let i = 0; i < rotaryDim; i++) {
      if (!rounding) variances[i]! += storeVariance(values[i]!, precision.store);
      else if (rounding.settings.table) variances[i] = flipVariance(values[i]!, variances[i]!, rounding.store);
    }
    if (rounding?.settings.table) roundAll(values, rounding.store);
  }
  return { cos, sin, cosVariance, sinVariance };
}

const operands = new Float64Array(2);

/** The angle as float32 code computes it: frequency and product rounded, or operands rounded to TF32. */
function computedAngle(position: number, frequency: number, tf32: boolean): number {
  if (!tf32) return Math.fround(position * Math.fround(frequency));
  operands[0] = position;
  operands[1] = Math.fround(frequency);
  roundToFormat(operands, tf32Format);
  return Math.fround(operands[0]! * operands[1]!);
}

function partnerOf(channel: number, half: number, pairing: RopeAttributes["pairing"]): number {
  if (pairing === "half") return channel < half ? channel + half : channel - half;
  return channel % 2 === 0 ? channel + 1 : channel - 1;
}

/** Of x·cos + x'·sin: both operands, both coefficients, and the two products where they are stored. */
function elementNoise(
  { precision, rounding }: OpContext,
  x: Block,
  own: number,
  partner: number,
  turns: Turns,
  channel: number,
  out: MutableBlock,
  at: number,
): void {
  const format = floatFormat(rounding?.store ?? precision.store);
  let variance = 0;
  for (const [i, coefficients, spreads] of [
    [own, turns.cos, turns.cosVariance],
    [partner, turns.sin, turns.sinVariance],
  ] as const) {
    const value = x.value[i]!;
    const factor = coefficients[channel]!;
    const spread = spreads[channel]!;
    const product = value * factor;
    let ofProduct =
      scaled(factor * factor, usableVariance(x, i)) +
      scaled(value * value, spread) +
      product * product * computeVariance;
    if (x.jump) raiseJump(out, at, Math.abs(factor) * x.jump[i]!);
    if (rounding?.settings.table && spread > 0 && format)
      raiseJump(out, at, Math.abs(value) * unitInLastPlace(factor, format));
    if (!rounding) ofProduct += storeVariance(product, precision.store);
    else if (rounding.settings.products) {
      ofProduct = flipVariance(product, ofProduct, rounding.store);
      if (ofProduct > 0 && format) raiseJump(out, at, unitInLastPlace(product, format));
    }
    variance += ofProduct;
  }
  out.variance[at] = variance;
}
