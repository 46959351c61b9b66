import { floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import { emptyBlock, type Op, type OpContext } from "../op.js";
import { biasOf, byScore, type Routing, scoreOf } from "./routing.js";

/** An error is taken to stay within this many sigma. */
const reach = 9;
/** Relative error of a float32 score: sigmoid or softmax, bias, sum of two. */
const ofScore = 2 ** -20;
/** Below this difference to the largest logit a float32 probability may be 0: ties among those are anybody's. */
const vanishing = -80;

/** Each expert's score in the choice, and how far a legal rounding may move it. */
interface Candidates {
  readonly score: Float64Array;
  readonly slack: Float64Array;
}

type Scoring = Pick<OpContext, "parameters" | "precision" | "rounding">;

/**
 * The experts of a row, [rows, topK] indices by descending score, from router logits [rows, experts]; DeepSeek-AI,
 * "DeepSeek-V3", 2024, for bias and groups. A choice that rounding of the logits leaves open is right as it was recorded,
 * in whatever order; where it was not recorded, its variance is infinite.
 */
export function chooseExperts(routing: Routing): Op {
  return {
    kind: "choose-experts",
    attributes: { ...routing },
    stored: true,
    evaluate(context, rows, columns) {
      const { noise } = context;
      const logits = context.input(0, rows);
      const out = emptyBlock(rows.length * columns.length, noise);
      const bias = biasOf(context.parameters, routing);
      const n = routing.experts;
      for (let r = 0; r < rows.length; r++) {
        const row = logits.value.subarray(r * n, (r + 1) * n);
        const exact = candidatesOf(context, routing, row, bias);
        const recorded = context.recorded?.(rows[r]!);
        let chosen: ArrayLike<number> = best(routing, exact.score);
        let open = false;
        const settled = context.settled?.(rows[r]!);
        if (settled) chosen = settled;
        else if (recorded && isLegal(routing, exact, recorded)) chosen = recorded;
        else if (noise) {
          const variance = logits.variance.subarray(r * n, (r + 1) * n);
          const uncertain = candidatesOf(context, routing, row, bias, variance);
          open = recorded ? isLegal(routing, uncertain, recorded) : isOpen(routing, uncertain, chosen);
        }
        for (let c = 0; c < columns.length; c++) {
          out.value[r * columns.length + c] = chosen[columns[c]!]!;
          if (open) out.variance[r * columns.length + c] = Infinity;
        }
      }
      return out;
    },
  };
}

/**
 * Sets of experts that rounding leaves open for one row of logits, the likeliest first; more than `most` of them are none.
 */
export function openChoices(
  context: Scoring,
  routing: Routing,
  logits: Float64Array,
  variance: Float64Array,
  most: number,
): number[][] {
  const bias = biasOf(context.parameters, routing);
  const candidates = candidatesOf(context, routing, logits, bias, variance);
  const first = best(routing, candidates.score);
  const found = [first];
  for (const set of found) {
    for (let slot = 0; slot < set.length; slot++) {
      for (let other = 0; other < routing.experts; other++) {
        if (set.includes(other)) continue;
        const changed = set.map((expert, s) => (s === slot ? other : expert));
        if (!isLegal(routing, candidates, changed) || found.some((known) => sameSet(known, changed))) continue;
        if (found.length >= most) return [];
        found.push(changed);
      }
    }
  }
  return found;
}

function sameSet(a: readonly number[], b: readonly number[]): boolean {
  return a.every((expert) => b.includes(expert));
}

function candidatesOf(
  { rounding, precision }: Scoring,
  routing: Routing,
  logits: Float64Array,
  bias: Float64Array | undefined,
  variance?: Float64Array,
): Candidates {
  const format = floatFormat(routing.logitsType ?? rounding?.store ?? precision.store);
  const largest = logits.reduce((most, x) => Math.max(most, x), -Infinity);
  const score = new Float64Array(logits.length);
  const slack = new Float64Array(logits.length);
  const times = routing.biasTimes ?? 1;
  for (let e = 0; e < logits.length; e++) {
    const logit = logits[e]!;
    const own = scoreOf(routing, logit);
    const added = bias ? times * bias[e]! : 0;
    score[e] = own + added;
    const moved =
      (format && Number.isFinite(logit) ? unitInLastPlace(logit, format) : 0) + reach * sigma(variance?.[e]);
    if (routing.scoring === "sigmoid") slack[e] = moved / 4 + ofScore * (Math.abs(own) + Math.abs(added));
    else slack[e] = moved + ofScore * (1 + largest - logit);
    if (routing.scoring === "softmax" && logit - largest < vanishing) slack[e] = Infinity;
    if (Number.isNaN(logit)) slack[e] = Infinity;
  }
  return { score, slack };
}

function sigma(variance: number | undefined): number {
  return variance === undefined ? 0 : Math.sqrt(variance);
}

function best(routing: Routing, scores: Float64Array): number[] {
  const order = byScore(scores);
  if (!routing.groups) return order.slice(0, routing.topK);
  const kept = new Set(byScore(groupScores(routing.groups, scores)).slice(0, routing.groups.kept));
  const size = scores.length / routing.groups.count;
  const inside = order.filter((expert) => kept.has(Math.floor(expert / size)));
  return inside.slice(0, routing.topK);
}

/** The sum of the two best scores of each group. */
function groupScores({ count }: NonNullable<Routing["groups"]>, scores: Float64Array): Float64Array {
  const size = scores.length / count;
  return Float64Array.from({ length: count }, (_, g) => {
    const sorted = scores.slice(g * size, (g + 1) * size).sort();
    return sorted.at(-1)! + (sorted.at(-2) ?? 0);
  });
}

/** Whether rounding may have led to this choice: as many different experts, and none outside surely better than one inside. */
function isLegal(routing: Routing, candidates: Candidates, chosen: ArrayLike<number>): boolean {
  const experts = new Set(Array.from(chosen));
  if (experts.size !== routing.topK) return false;
  for (const expert of experts) if (!Number.isInteger(expert) || expert < 0 || expert >= routing.experts) return false;
  const low = candidates.score.map((score, e) => surely(score - candidates.slack[e]!, -Infinity));
  const high = candidates.score.map((score, e) => surely(score + candidates.slack[e]!, Infinity));
  let worst = Infinity;
  for (const expert of experts) worst = Math.min(worst, high[expert]!);
  const mayBeKept = keptGroups(routing, low, high);
  for (const expert of experts) if (!mayBeKept.possible(expert)) return false;
  for (let other = 0; other < routing.experts; other++) {
    if (!experts.has(other) && mayBeKept.sure(other) && low[other]! > worst) return false;
  }
  return true;
}

function surely(bound: number, otherwise: number): number {
  return Number.isNaN(bound) ? otherwise : bound;
}

/** Of which experts the group may be kept, and of which it must be. */
function keptGroups({ groups, experts }: Routing, low: Float64Array, high: Float64Array) {
  if (!groups) return { possible: () => true, sure: () => true };
  const lowest = groupScores(groups, low);
  const highest = groupScores(groups, high);
  const size = experts / groups.count;
  const others = (g: number, better: (other: number) => boolean) =>
    Array.from(lowest.keys()).filter((other) => other !== g && better(other)).length;
  const possible = Array.from(lowest.keys(), (g) => others(g, (other) => lowest[other]! > highest[g]!) < groups.kept);
  const sure = Array.from(lowest.keys(), (g) => others(g, (other) => highest[other]! >= lowest[g]!) < groups.kept);
  return {
    possible: (expert: number) => possible[Math.floor(expert / size)]!,
    sure: (expert: number) => sure[Math.floor(expert / size)]!,
  };
}

/** Whether rounding leaves another set open besides this one. */
function isOpen(routing: Routing, candidates: Candidates, chosen: ArrayLike<number>): boolean {
  const set = Array.from(chosen);
  for (let slot = 0; slot < set.length; slot++) {
    for (let other = 0; other < routing.experts; other++) {
      if (set.includes(other)) continue;
      if (
        isLegal(
          routing,
          candidates,
          set.map((expert, s) => (s === slot ? other : expert)),
        )
      )
        return true;
    }
  }
  return false;
}
