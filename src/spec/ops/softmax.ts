import { type DType, floatFormat, roundTo, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll, roundToFormat } from "../../tensor/rounding.js";
import { flipVariance } from "../noise.js";
import type { Block, OpContext } from "../op.js";
import type { AttentionAttributes } from "./attention.js";
import { weightNoise } from "./attention-noise.js";
import { type AttentionRounding, float32Attention } from "./attention-recipes.js";
import { narrowFormat, type Query, type Scores, scoresOf } from "./attention-scores.js";
import { runningMaxima, wholeVectors } from "./attention-tiles.js";
import { fastExponential } from "./exponential.js";
import { mergeFactors, narrowWeights } from "./softmax-rewrites.js";

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
  const store = rounding?.store ?? context.precision.store;
  const scored = scoresOf(context, a, settings, query, keys, keyHead, positions);
  const { scores } = scored;
  let sink = sinkOf(context, a, query.head);
  if (settings.centred) sink = centre(scored, sink, store, noise);
  const maxima = runningMaxima(scores, query.columns, settings, query.keyColumns ?? query.keyCount);
  // A sink is a score like the others: the running maximum begins with it.
  const last = Math.max(maxima.last, sink ?? -Infinity);
  if (sink !== undefined) for (let j = 0; j < scores.length; j++) maxima.of[j] = Math.max(maxima.of[j]!, sink);
  const { compute } = context.arithmetic;
  const whole = settings.fastExponential ? wholeVectors(query, settings.tile) : 0;
  const unrounded = scores.map((score, j) => {
    const exponent = score - maxima.of[j]!;
    return j < whole ? fastExponential(exponent) : compute(Math.exp(exponent));
  });
  const normalised = settings.weights === "probabilities";
  const { factor, narrow, merge } = a.rewrite ?? {};
  const weight = unrounded.slice();
  if (factor && !normalised)
    for (let j = 0; j < weight.length; j++) weight[j]! *= factor(query.row, query.head, positions[j]!);
  if (settings.weights === "exponentials") roundAll(weight, store);
  if (narrow && !normalised) narrowWeights(weight, narrow);
  const rescale = maxima.of.map((maximum) => (maximum === last ? 1 : Math.exp(maximum - last)));
  const summands = settings.roundedSum && !factor ? weight : unrounded;
  let total = sink === undefined ? 0 : Math.exp(sink - last);
  for (let j = 0; j < scores.length; j++) total += summands[j]! * rescale[j]!;
  const parts =
    merge &&
    mergeFactors(merge, {
      scores,
      positions,
      keyCount: query.keyCount,
      summand: (j) => summands[j]! * rescale[j]!,
      last,
    });
  if (normalised) {
    for (let j = 0; j < scores.length; j++) weight[j]! *= rescale[j]! / total;
    unrounded.set(weight);
    roundAll(weight, store);
    if (factor) {
      for (let j = 0; j < weight.length; j++) weight[j]! *= factor(query.row, query.head, positions[j]!);
      roundAll(weight, store);
    }
    if (narrow) narrowWeights(weight, narrow);
  }
  const narrowed = narrowFormat(rounding, "values");
  if (narrowed) roundToFormat(weight, narrowed);
  if (!normalised) for (let j = 0; j < scores.length; j++) weight[j]! *= rescale[j]!;
  if (parts) for (let j = 0; j < weight.length; j++) weight[j]! *= parts.factors[j]! * (normalised ? total : 1);
  const divisor = parts ? parts.total : normalised ? 1 : total;
  const spread = noise ? weightNoise(context, settings, scored, unrounded, rescale, total, whole) : noSpread;
  return { weight, total: divisor, overflow: scored.overflow, ...spread };
}

function sinkOf({ parameters }: OpContext, { sink }: AttentionAttributes, head: number): number | undefined {
  return typeof sink === "string" ? parameters.rows(sink, 0, 1)[head] : sink;
}

/** Subtracts the largest of scores and sink from them all and stores the differences. @returns the sink so stored. */
function centre(scored: Scores, sink: number | undefined, store: DType, noise: boolean): number | undefined {
  const { scores, variance, jump } = scored;
  const largest = scores.reduce((most, score) => Math.max(most, score), sink ?? -Infinity);
  const format = floatFormat(store);
  for (let j = 0; j < scores.length; j++) {
    scores[j]! -= largest;
    if (!noise || !format) continue;
    variance[j] = flipVariance(scores[j]!, variance[j]!, store, jump[j]);
    if (variance[j]! > 0) jump[j] = Math.max(jump[j]!, unitInLastPlace(scores[j]!, format));
  }
  roundAll(scores, store);
  return sink === undefined ? undefined : roundTo(sink - largest, store);
}

const nothing = new Float64Array(0);
const noSpread = { weightVariance: nothing, weightJump: nothing, totalVariance: 0, shared: false };
