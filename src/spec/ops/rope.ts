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
  storedVariance,
  usableVariance,
} from "../op.js";
import type { Recipe } from "../recipe.js";
import type { RowTable } from "../rows.js";

export interface RopeAttributes {
  readonly headDim: number;
  /** Channels of a head that rotate; the rest pass through. */
  readonly rotaryDim: number;
  /** Angle per position of each pair, [rotaryDim / 2]. RoPE scaling lives here and in `attentionFactor` alone. */
  readonly inverseFrequencies: Float64Array;
  /** Multiplies cos and sin (YaRN). */
  readonly attentionFactor: number;
  /** Other frequencies for every row of a step that reaches beyond so many positions (LongRoPE). */
  readonly beyond?: { readonly positions: number; readonly inverseFrequencies: Float64Array } | undefined;
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
  return {
    kind: "rope",
    attributes: { ...attributes },
    recipes: ropeRecipes,
    evaluate(context, rows, columns) {
      const { input, width, rows: table, noise, rounding } = context;
      const inputColumns = width(0);
      const x = input(0, rows);
      const out = emptyBlock(rows.length * columns.length, noise);
      const tables = turnsFor(attributes, context);
      const places = placesOf(columns, attributes);
      const size = columns.length;
      const products = new Float64Array(2 * size);
      for (let r = 0; r < rows.length; r++) {
        const derived = table.rotaryPosition(rows[r]!);
        const position = attributes.positionOf ? attributes.positionOf(rows[r]!, derived) : derived;
        const long = attributes.beyond && isLong(table, rows[r]!, attributes.beyond.positions);
        const key = `${position} ${long}`;
        let turns = tables.get(key);
        if (!turns) {
          turns = turnsOf(long ? { ...attributes, ...attributes.beyond } : attributes, position, context);
          if (tables.size === mostPositions) tables.clear();
          tables.set(key, turns);
        }
        const from = r * inputColumns;
        multiply(x.value, from, columns, places, turns, products);
        if (noise) {
          for (let c = 0; c < size; c++) {
            const own = from + columns[c]!;
            if (places.channels[c]! < 0) out.variance[r * size + c] = usableVariance(x, own);
            else
              elementNoise(context, x, own, from + places.partners[c]!, turns, places.channels[c]!, out, r * size + c);
          }
        }
        if (rounding?.settings.products) roundAll(products, rounding.store);
        addHalves(products, out.value, r * size);
      }
      return out;
    },
  };
}

/** Whether the step of a row holds a position beyond `positions`. */
function isLong(table: RowTable, row: number, positions: number): boolean {
  const step = table.steps[table.stepOf[row]!]!;
  for (let i = 0; i < step.rowCount; i++) if (table.rotaryPosition(step.firstRow + i) >= positions) return true;
  return false;
}

/** Of each column asked for: its channel within its head, -1 where it does not rotate, and its partner's column if it does. */
interface Places {
  readonly channels: Int32Array;
  readonly partners: Int32Array;
}

function placesOf(columns: Int32Array, { headDim, rotaryDim, pairing }: RopeAttributes): Places {
  const channels = new Int32Array(columns.length);
  const partners = new Int32Array(columns.length);
  for (let c = 0; c < columns.length; c++) {
    const column = columns[c]!;
    const channel = column % headDim;
    channels[c] = channel < rotaryDim ? channel : -1;
    partners[c] = column - channel + partnerOf(channel, rotaryDim / 2, pairing);
  }
  return { channels, partners };
}

/** x·cos of every column of a row, then x'·sin of every column: a channel that does not rotate is itself, and zero. */
function multiply(
  x: Float64Array,
  from: number,
  columns: Int32Array,
  { channels, partners }: Places,
  { cos, sin }: Turns,
  products: Float64Array,
): void {
  const size = columns.length;
  for (let c = 0; c < size; c++) {
    const value = x[from + columns[c]!]!;
    const channel = channels[c]!;
    products[c] = channel < 0 ? value : value * cos[channel]!;
    products[size + c] = channel < 0 ? 0 : x[from + partners[c]!]! * sin[channel]!;
  }
}

/** The sums of both products of every column of a row. */
function addHalves(products: Float64Array, out: Float64Array, to: number): void {
  const size = products.length / 2;
  for (let c = 0; c < size; c++) out[to + c] = products[c]! + products[size + c]!;
}

/** The two coefficients of every channel at one position: of itself, and of its partner with its sign. */
interface Turns {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
  readonly cosVariance: Float64Array;
  readonly sinVariance: Float64Array;
}

/** Positions whose turns are kept. */
const mostPositions = 512;
/** By frequencies, which all layers share, or by attributes that have more to say; then by what they are computed in. */
const knownTurns = new WeakMap<object, Map<string, Map<string, Turns>>>();

/** The turns that are known of an op's positions under a context's roundings. */
function turnsFor(a: RopeAttributes, { rounding, precision, noise }: OpContext): Map<string, Turns> {
  const isPlain = !(a.beyond || a.angleType || a.channelFrequencies || a.cosine || a.sine);
  const owner = isPlain ? a.inverseFrequencies : a;
  let known = knownTurns.get(owner);
  if (!known) {
    known = new Map();
    knownTurns.set(owner, known);
  }
  const { table, angle } = rounding?.settings ?? {};
  const computed = [rounding?.store, table, angle, precision.store, precision.compute, noise];
  const key = [a.rotaryDim, a.pairing, a.attentionFactor, ...computed].join();
  let turns = known.get(key);
  if (!turns) {
    turns = new Map();
    known.set(key, turns);
  }
  return turns;
}

function turnsOf(a: RopeAttributes, position: number, context: OpContext): Turns {
  const { rotaryDim, attentionFactor, pairing } = a;
  const { rounding, noise } = context;
  const half = rotaryDim / 2;
  const angles = new Float64Array(rotaryDim);
  const rawCos = new Float64Array(rotaryDim);
  const rawSin = new Float64Array(rotaryDim);
  const cos = new Float64Array(rotaryDim);
  const sin = new Float64Array(rotaryDim);
  const frequencyOf = (channel: number) =>
    a.channelFrequencies?.[channel] ?? a.inverseFrequencies[pairing === "half" ? channel % half : channel >> 1]!;
  for (let channel = 0; channel < rotaryDim; channel++) {
    const frequency = frequencyOf(channel);
    const partner = partnerOf(channel, half, pairing);
    // Both channels of a pair turn by one angle, unless a rewrite says otherwise.
    if (partner < channel && frequencyOf(partner) === frequency) {
      angles[channel] = angles[partner]!;
      rawCos[channel] = rawCos[partner]!;
      rawSin[channel] = rawSin[partner]!;
    } else {
      angles[channel] = angleOf(position, frequency, context, a.angleType);
      rawCos[channel] = rounded(Math.cos(angles[channel]!), a.angleType) * attentionFactor;
      rawSin[channel] = rounded(Math.sin(angles[channel]!), a.angleType) * attentionFactor;
    }
    const [cosine, sine] = [rawCos[channel]!, rawSin[channel]!];
    cos[channel] = a.cosine ? a.cosine(cosine, sine) : cosine;
    sin[channel] = (a.sine ? a.sine(cosine, sine) : sine) * (channel < partner ? -1 : 1);
  }
  const variances = noise ? turnVariances(a, angles, rawCos, rawSin, { cos, sin }, context) : unknownVariances;
  if (rounding?.settings.table) {
    roundAll(cos, rounding.store);
    roundAll(sin, rounding.store);
  }
  return { cos, sin, ...variances };
}

const unknownVariances = { cosVariance: new Float64Array(0), sinVariance: new Float64Array(0) };

/** Of coefficients that are not rounded yet. */
function turnVariances(
  { angleType }: RopeAttributes,
  angles: Float64Array,
  rawCos: Float64Array,
  rawSin: Float64Array,
  { cos, sin }: Pick<Turns, "cos" | "sin">,
  { rounding, precision }: OpContext,
): Pick<Turns, "cosVariance" | "sinVariance"> {
  const emulated = rounding !== undefined && precision.compute !== "float64";
  const ofAngle = angleVariance(emulated ? { ...precision, compute: "float32" } : precision);
  const stored = (value: number, variance: number) => {
    if (!rounding) return variance + storeVariance(value, precision.store);
    return rounding.settings.table ? flipVariance(value, variance, rounding.store) : variance;
  };
  const cosVariance = new Float64Array(angles.length);
  const sinVariance = new Float64Array(angles.length);
  for (let i = 0; i < angles.length; i++) {
    if (angleType) {
      cosVariance[i] = flipVariance(Math.cos(angles[i]!), functionVariance, angleType);
      sinVariance[i] = flipVariance(Math.sin(angles[i]!), functionVariance, angleType);
      continue;
    }
    const cosSquare = rawCos[i]! * rawCos[i]!;
    const sinSquare = rawSin[i]! * rawSin[i]!;
    const turn = angles[i]! * angles[i]! * ofAngle;
    cosVariance[i] = stored(cos[i]!, sinSquare * turn + cosSquare * computeVariance);
    sinVariance[i] = stored(sin[i]!, cosSquare * turn + sinSquare * computeVariance);
  }
  return { cosVariance, sinVariance };
}

const rounded = (x: number, type: RopeAttributes["angleType"]) => (type ? roundTo(x, type) : x);

/** The angle of a pair in the precision that is emulated, or exactly. */
function angleOf(
  position: number,
  frequency: number,
  { rounding, precision }: OpContext,
  type: RopeAttributes["angleType"],
): number {
  if (type) return roundTo(roundTo(position, type) * roundTo(frequency, type), type);
  if (!rounding || precision.compute === "float64") return position * frequency;
  return computedAngle(position, frequency, rounding.settings.angle === "tf32");
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
      ofProduct = storedVariance(out, at, product, ofProduct, rounding.store);
    }
    variance += ofProduct;
  }
  out.variance[at] = variance;
}
