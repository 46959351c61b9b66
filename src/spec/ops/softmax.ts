import { roundAll, roundToFormat } from "../../tensor/rounding.js";
import { tf32Format } from "../noise.js";
import type { Block, OpContext } from "../op.js";
import type { AttentionAttributes } from "./attention.js";
import { weightNoise } from "./attention-noise.js";
import { type AttentionRounding, float32Attention } from "./attention-recipes.js";
import { isTf32, type Query, scoresOf } from "./attention-scores.js";
import { runningMaxima, wholeVectors } from "./attention-tiles.js";
import { fastExponential } from "./exponential.js";

/** One query head over its visible keys: the output is Σ weight_j · value_j / total. */
export interface SoftmaxRow {
  readonly weight: Float64Array;
  readonly total: number;
  /** Variance of each weight as it multiplies the values. */
  readonly weightVariance: Float64Array;
  /** Largest error of a weight that one flipped rounding causes. */
  readonly weightJump: Float64Array;
  /** Variance of the total, apart from what it shares with the weights. */
  readonly totalVariance: number;
  /** Whether the errors of the weights are those of the total as well, so that they cancel in part. */
  readonly shared: boolean;
  readonly overflow: boolean;
}

/** All keys alike: what a mask of one finite value everywhere makes of a row. */
export function uniformRow(count: number, noise: boolean): SoftmaxRow {
  return {
    weight: new Float64Array(count).fill(1 / count),
    total: 1,
    weightVariance: new Float64Array(noise ? count : 0),
    weightJump: new Float64Array(noise ? count : 0),
    totalVariance: 0,
    shared: false,
    overflow: false,
  };
}

/** Softmax of one query head over the keys at `positions`, rounded where the recipe says. */
export function softmaxRow(
  context: OpContext,
  a: AttentionAttributes,
  query: Query,
  keys: Block,
  keyHead: number,
  positions: readonly number[],
): SoftmaxRow {
  const { noise, rounding } = context;
  const settings = { ...float32Attention, ...rounding?.settings } as AttentionRounding;
  const scored = scoresOf(context, a, settings, query, keys, keyHead, positions);
  const { scores } = scored;
  const maxima = runningMaxima(scores, positions, settings, query.keyCount);
  const last = a.sink === undefined ? maxima.last : Math.max(maxima.last, a.sink);
  const store = rounding?.store ?? context.precision.store;
  const { compute } = context.arithmetic;
  const whole = settings.fastExponential ? wholeVectors(query, positions, settings.tile) : 0;
  const unrounded = scores.map((score, j) => {
    const exponent = score - maxima.of[j]!;
    return j < whole ? fastExponential(exponent) : compute(Math.exp(exponent));
  });
  const weight = unrounded.slice();
  if (settings.weights === "exponentials") roundAll(weight, store);
  const rescale = maxima.of.map((maximum) => (maximum === last ? 1 : Math.exp(maximum - last)));
  const summands = settings.roundedSum ? weight : unrounded;
  let total = a.sink === undefined ? 0 : Math.exp(a.sink - last);
  for (let j = 0; j < scores.length; j++) total += summands[j]! * rescale[j]!;
  if (settings.weights === "probabilities") {
    for (let j = 0; j < scores.length; j++) weight[j]! *= rescale[j]! / total;
    unrounded.set(weight);
    roundAll(weight, store);
  }
  if (isTf32(rounding, "values")) roundToFormat(weight, tf32Format);
  if (settings.weights !== "probabilities") for (let j = 0; j < scores.length; j++) weight[j]! *= rescale[j]!;
  const divisor = settings.weights === "probabilities" ? 1 : total;
  const spread = noise ? weightNoise(context, settings, scored, unrounded, rescale, total) : noSpread;
  return { weight, total: divisor, overflow: scored.overflow, ...spread };
}

const nothing = new Float64Array(0);
const noSpread = { weightVariance: nothing, weightJump: nothing, totalVariance: 0, shared: false };
