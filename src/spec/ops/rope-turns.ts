import { roundTo } from "../../tensor/dtype.js";
import { roundAll, roundToFormat } from "../../tensor/rounding.js";
import { angleVariance, computeVariance, flipVariance, functionVariance, storeVariance, tf32Format } from "../noise.js";
import type { OpContext } from "../op.js";
import type { RopeAttributes } from "./rope-attributes.js";

/** The two coefficients of every channel at one position: of itself, and of its partner with its sign. */
export interface Turns {
  readonly cos: Float64Array;
  readonly sin: Float64Array;
  readonly cosVariance: Float64Array;
  readonly sinVariance: Float64Array;
}

/** Positions whose turns are kept. */
const mostPositions = 512;
/** By frequencies, which all layers share, or by attributes that have more to say; then by what they are computed in. */
const knownTurns = new WeakMap<object, Map<string, Map<string, Turns>>>();

/**
 * The turns of an op under a context's roundings, worked out once.
 * @returns them by position, and by whether the step of the row reaches beyond the positions of `beyond`.
 */
export function turnsOf(a: RopeAttributes, context: OpContext): (position: number, isLong: boolean) => Turns {
  const known = keptFor(a, context);
  return (position, isLong) => {
    const key = `${position} ${isLong}`;
    let turns = known.get(key);
    if (!turns) {
      turns = turnsAt(isLong ? { ...a, ...a.beyond } : a, position, context);
      if (known.size === mostPositions) known.clear();
      known.set(key, turns);
    }
    return turns;
  };
}

function keptFor(a: RopeAttributes, { rounding, precision, noise }: OpContext): Map<string, Turns> {
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

function turnsAt(a: RopeAttributes, position: number, context: OpContext): Turns {
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

/** The channel that a channel pairs with. */
export function partnerOf(channel: number, half: number, pairing: RopeAttributes["pairing"]): number {
  if (pairing === "half") return channel < half ? channel + half : channel - half;
  return channel % 2 === 0 ? channel + 1 : channel - 1;
}
