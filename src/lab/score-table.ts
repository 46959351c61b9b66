import { criteria } from "./baselines.js";
import type { Score } from "./benchmark.js";
import type { CorrectScore } from "./correct/runs.js";

/** Shares of one class of runs, of those that show their fault at all. */
export interface ClassScore {
  /** Kind of the faults, or "all". */
  readonly kind: string;
  /** Faults of that kind, and runs of them that show. */
  readonly faults: number;
  readonly runs: number;
  /** Runs of which the right units are accused and no others. */
  readonly placed: number;
  /** Runs of which the cause is named, alone or among alternatives. */
  readonly named: number;
  /** Runs for which one wrong cause is given as the cause. */
  readonly wrong: number;
  /** By criterion, the runs whose place a comparison with a correct run finds; absent unless it was asked for. */
  readonly baselines?: Readonly<Record<string, number>>;
}

const placed = new Set(["named", "ambiguous", "unexplained", "placed"]);
const named = new Set(["named", "ambiguous"]);

/** Scores by kind of fault, and all together last. */
export function scoreTable(scores: readonly Score[]): ClassScore[] {
  const shown = scores.filter(({ outcome }) => outcome !== "hidden");
  const kinds = [...new Set(shown.map(({ kind }) => kind))].sort();
  return [
    ...kinds.map((kind) =>
      classScore(
        kind,
        shown.filter((score) => score.kind === kind),
      ),
    ),
    classScore("all", shown),
  ];
}

function classScore(kind: string, scores: readonly Score[]): ClassScore {
  const count = (holds: (score: Score) => boolean) => scores.filter(holds).length;
  const compared = scores.some(({ baselines }) => baselines);
  return {
    kind,
    faults: new Set(scores.map(({ fault }) => fault)).size,
    runs: scores.length,
    placed: count(({ outcome }) => placed.has(outcome)),
    named: count(({ outcome }) => named.has(outcome)),
    wrong: count(({ outcome, causes }) => outcome === "placed" || (outcome === "false-alarm" && causes.length > 0)),
    ...(compared && {
      baselines: Object.fromEntries(
        criteria.map(({ id }) => [id, count(({ baselines }) => baselines?.[id] === "placed")]),
      ),
    }),
  };
}

/** The table as lines of Markdown. */
export function tableLines(scores: readonly Score[], correct: readonly CorrectScore[]): string[] {
  const rows = scoreTable(scores);
  const compared = [...rows.flatMap(({ baselines }) => (baselines ? [baselines] : []))].length > 0;
  const head = [
    "faults",
    "",
    "runs",
    "placed",
    "named",
    "wrong cause",
    ...(compared ? criteria.map(({ id }) => id) : []),
  ];
  const line = (cells: readonly (string | number)[]) => `| ${cells.join(" | ")} |`;
  const lines =
    scores.length > 0
      ? [
          line(head),
          line(head.map((_, i) => (i === 0 ? "---" : "---:"))),
          ...rows.map(({ kind, faults, runs, placed, named, wrong, baselines }) =>
            line([
              kind,
              faults,
              runs,
              share(placed, runs),
              share(named, runs),
              share(wrong, runs),
              ...(compared ? criteria.map(({ id }) => share(baselines?.[id] ?? 0, runs)) : []),
            ]),
          ),
        ]
      : [];
  if (correct.length === 0) return lines;
  const accused = correct.filter((score) => score.accused).length;
  const others = criteria.flatMap(({ id }) => {
    const judged = correct.filter(({ baselines }) => baselines);
    if (judged.length === 0) return [];
    return [`${judged.filter(({ baselines }) => baselines![id] !== undefined).length} by ${id}`];
  });
  return [...lines, `${correct.length} correct runs: ${[`${accused} accused`, ...others].join(", ")}`];
}

function share(count: number, of: number): string {
  return of === 0 ? "" : `${((100 * count) / of).toFixed(1)} %`;
}
