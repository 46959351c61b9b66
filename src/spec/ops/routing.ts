import type { ParameterReader } from "../../tensor/checkpoint.js";
import type { DType } from "../../tensor/dtype.js";

/** How a router turns its logits into a choice of experts and their weights. */
export interface Routing {
  readonly experts: number;
  /** Experts chosen per token. */
  readonly topK: number;
  /**
   * "softmax" over all experts, then the largest are chosen (Mixtral, Qwen-MoE); the largest logits are chosen, then softmax
   * over them ("softmax-of-chosen", gpt-oss); the "sigmoid" of each (DeepSeek-V3, GLM-4 MoE).
   */
  readonly scoring: "softmax" | "softmax-of-chosen" | "sigmoid";
  /** Parameter [experts] that is added to the scores for the choice alone (auxiliary-loss-free balancing). */
  readonly bias?: string | undefined;
  /** Only experts of the best groups may be chosen; a group counts as much as its two best scores. */
  readonly groups?: { readonly count: number; readonly kept: number } | undefined;
  /** Whether the chosen weights are divided by their sum. */
  readonly renormalised: boolean;
  /** Multiplies the weights: routed_scaling_factor. */
  readonly scale: number;
  /** The type of the logits, where it is not the run's. */
  readonly logitsType?: DType | undefined;
  /** Times the bias counts in the choice, and in the weights, where a rewrite says so: 1 and 0. */
  readonly biasTimes?: number;
  readonly biasInWeights?: number;
}

/** Score of one expert: what the choice compares, before the bias, and what its weight is made from. */
export function scoreOf({ scoring }: Routing, logit: number): number {
  return scoring === "sigmoid" ? 1 / (1 + Math.exp(-logit)) : logit;
}

/** The bias as the checkpoint has it: it stays float32 in a model that runs in bfloat16. */
export function biasOf(parameters: ParameterReader, { bias }: Routing): Float64Array | undefined {
  return bias ? (parameters.asStored ?? parameters).rows(bias, 0, 1) : undefined;
}

/** Experts by descending score, the lowest index on ties; NaN comes last. */
export function byScore(scores: Float64Array): number[] {
  const size = (i: number) => (Number.isNaN(scores[i]!) ? -Infinity : scores[i]!);
  return Array.from(scores.keys()).sort((a, b) => size(b) - size(a) || a - b);
}
