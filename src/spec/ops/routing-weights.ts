import type { DType } from "../../tensor/dtype.js";
import { roundAll } from "../../tensor/rounding.js";
import { computeVariance, flipVariance, functionVariance, storeVariance } from "../noise.js";
import { type Block, emptyBlock, type Op, type OpContext, raiseJump, usableVariance } from "../op.js";
import type { Recipe } from "../recipe.js";
import { biasOf, type Routing, scoreOf } from "./routing.js";

/** DeepSeek-V3's and GLM's guard against a sum of 0. */
const guard = 1e-20;

export const routingRecipes: readonly Recipe[] = [
  {
    id: "float32",
    title: "scores and their sum in float32, one rounding",
    known: ["Hugging Face", "vLLM"],
    settings: { scores: false },
  },
  {
    id: "scores-rounded",
    title: "scores are rounded before they are divided by their sum",
    known: ["eager code in the model's own type"],
    settings: { scores: true },
  },
];

/**
 * The weight of each chosen expert, [rows, topK], from router logits [rows, experts] and indices [rows, topK]. Shazeer et al.,
 * "Outrageously large neural networks", 2017; for sigmoid scores DeepSeek-AI, "DeepSeek-V3", 2024.
 * @param dtype the type they are stored in, where that is not the run's.
 */
export function routingWeights(routing: Routing, dtype?: DType): Op {
  return {
    kind: "routing-weights",
    attributes: { ...routing },
    recipes: routingRecipes,
    dtype,
    evaluate(context, rows, columns) {
      const logits = context.input(0, rows);
      const indices = context.input(1, rows);
      const out = emptyBlock(rows.length * columns.length, context.noise);
      for (let r = 0; r < rows.length; r++) {
        const chosen = Array.from(indices.value.subarray(r * routing.topK, (r + 1) * routing.topK));
        const weights = weightsOf(context, routing, logits.value, r * routing.experts, chosen);
        for (let c = 0; c < columns.length; c++) {
          const at = r * columns.length + c;
          const slot = columns[c]!;
          out.value[at] = weights.value[slot]!;
          if (!context.noise) continue;
          out.variance[at] = varianceOf(context, routing, logits, r * routing.experts, weights, slot);
          if (usableVariance(indices, r * routing.topK + slot) === Infinity) out.variance[at] = Infinity;
          if (logits.jump) raiseJump(out, at, jumpOf(weights, logits.jump, r * routing.experts, slot));
        }
      }
      return out;
    },
  };
}

/** Weights of one row, with the shares they are of their sum and how steeply each score follows its logit. */
interface Weights {
  readonly value: Float64Array;
  readonly chosen: readonly number[];
  /** Experts that the divisor sums, their shares of it, and the relative slope of their scores. */
  readonly summed: readonly number[];
  readonly share: Float64Array;
  readonly slope: Float64Array;
}

function weightsOf(
  { rounding, parameters }: OpContext,
  routing: Routing,
  logits: Float64Array,
  start: number,
  chosen: readonly number[],
): Weights {
  const { experts, scoring, renormalised, scale } = routing;
  const all = Array.from({ length: experts }, (_, e) => e);
  const softmax = scoring !== "sigmoid";
  const over = scoring === "softmax" ? all : chosen;
  const largest = softmax ? over.reduce((most, e) => Math.max(most, logits[start + e]!), -Infinity) : 0;
  const raw = (e: number) => (softmax ? Math.exp(logits[start + e]! - largest) : scoreOf(routing, logits[start + e]!));
  const total = softmax ? over.reduce((sum, e) => sum + raw(e), 0) : 1;
  const scores = Float64Array.from(chosen, (e) => raw(e) / total);
  const bias = routing.biasInWeights ? biasOf(parameters, routing) : undefined;
  if (bias) for (let s = 0; s < scores.length; s++) scores[s]! += routing.biasInWeights! * bias[chosen[s]!]!;
  if (rounding?.settings.scores) roundAll(scores, rounding.store);
  const sum = scores.reduce((so, score) => so + score, scoring === "sigmoid" ? guard : 0);
  const divisor = renormalised ? sum : 1;
  const value = scores.map((score) => (score / divisor) * scale);
  const summed = renormalised ? chosen : softmax ? over : [];
  const totalOfSummed = summed.reduce((so, e) => so + raw(e), 0);
  return {
    value,
    chosen,
    summed,
    share: Float64Array.from(summed, (e) => raw(e) / totalOfSummed),
    slope: Float64Array.from(all, (e) => (softmax ? 1 : 1 - scoreOf(routing, logits[start + e]!))),
  };
}

/** To first order: a weight follows its own logit, and through the divisor those of all experts that it sums. */
function varianceOf(
  { precision, rounding }: OpContext,
  { scoring }: Routing,
  logits: Block,
  start: number,
  { value, chosen, summed, share, slope }: Weights,
  slot: number,
): number {
  const own = chosen[slot]!;
  const weight = value[slot]!;
  let relative = computeVariance * (summed.length + 8) + 3 * functionVariance;
  if (scoring !== "sigmoid") relative += 4 * computeVariance * logits.value[start + own]! ** 2;
  const lever = (e: number) => slope[e]! * ((e === own ? 1 : 0) - (share[summed.indexOf(e)] ?? 0));
  for (const e of new Set([own, ...summed])) {
    const variance = usableVariance(logits, start + e);
    const factor = lever(e);
    if (variance !== 0 && factor !== 0) relative += factor * factor * variance;
  }
  const smooth = weight * weight * relative;
  if (!rounding) return smooth + 2 * storeVariance(weight, precision.store);
  return rounding.settings.scores ? smooth + flipVariance(weight, smooth, rounding.store) : smooth;
}

function jumpOf({ value, chosen, summed, slope }: Weights, jumps: Float64Array, start: number, slot: number): number {
  const reaching = new Set([chosen[slot]!, ...summed]);
  let most = 0;
  for (const e of reaching) most = Math.max(most, Math.abs(value[slot]!) * slope[e]! * jumps[start + e]!);
  return most;
}
