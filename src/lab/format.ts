import { type Score, tally } from "./benchmark.js";
import type { CorrectScore } from "./correct/runs.js";
import type { Fault, FaultValues } from "./fault.js";
import { scoreTable } from "./score-table.js";

/** Settings as `name value, …`. */
export function settings(values: FaultValues): string {
  const round = (value: number | string) => (typeof value === "number" ? Number(value.toPrecision(4)) : value);
  return Object.entries(values)
    .map(([name, value]) => `${name} ${round(value)}`)
    .join(", ");
}

/** A fault as data, without its functions. */
export function faultData({ id, title, kind, transform, scope, situation, expected, hiddenWhen }: Fault) {
  return { id, title, kind, transform, scope, situation, expected, hiddenWhen };
}

/** All scores as data, and what they come to. */
export function runData(correct: readonly CorrectScore[], scores: readonly Score[]) {
  const accused = correct.filter((score) => score.accused).length;
  return {
    correct: { runs: correct.length, accused, scores: correct },
    counts: tally(scores),
    table: scoreTable(scores),
    scores,
  };
}

/** What a score says in one line. */
export function scoreLine(score: Score): string {
  const where = score.layers.length > 0 ? `layer ${score.layers.join(", ")}` : "model";
  const named = score.causes.length > 0 ? score.causes.join("; ") : "no cause";
  const drawn = settings(score.values);
  const stray = score.strangers.length > 0 ? `; also accused: ${score.strangers.slice(0, 3).join(", ")}` : "";
  const part = score.recorded === "all" ? "" : `, ${score.recorded} recorded`;
  return `${score.fault}: ${score.model}, ${score.store}${part}, ${where}${drawn ? `, ${drawn}` : ""}: ${score.verdict}, ${named}${stray}`;
}

/** What the verdict on a correct run says in one line. */
export function correctLine({ id, text, store, causes, findings }: CorrectScore): string {
  const accused = [...causes, ...findings.map((unit) => `${unit} unexplained`)];
  return `${id}: ${store}, ${text}${accused.length > 0 ? `: ${accused.join("; ")}` : ""}`;
}
