import type { CauseId } from "../diagnose/causes/catalogue.js";
import type { CauseKind } from "../diagnose/causes/cause-entry.js";
import { diagnose } from "../diagnose/diagnose.js";
import type { Verdict } from "../diagnose/tell/verdict.js";
import type { DType } from "../tensor/dtype.js";
import { type Criterion, firstDifferences } from "./baselines.js";
import type { Fault, FaultValues } from "./fault.js";
import type { LabModel } from "./model.js";
import { discard, type Recorded, runTrial, type Trial, unitsBeyondNoise } from "./trial.js";

/**
 * named: the cause, in the right layers, and nothing else accused. ambiguous: it is among the alternatives given.
 * unexplained: the right units, and no cause at all. placed: another cause, in the right units. false-alarm: a unit or
 * layer accused that has nothing. missed: called clean although a unit stands beyond rounding. hidden: the run does not
 * show the fault, and nothing was accused.
 */
export type Outcome = "named" | "ambiguous" | "unexplained" | "placed" | "false-alarm" | "missed" | "hidden";

export interface Score {
  readonly fault: string;
  readonly kind: CauseKind;
  readonly model: string;
  readonly store: DType;
  readonly layers: readonly number[];
  /** What was recorded. */
  readonly recorded: Recorded;
  readonly values: FaultValues;
  readonly outcome: Outcome;
  readonly verdict: Verdict["verdict"];
  /** Ids of the causes named, each with its alternatives. */
  readonly causes: readonly string[];
  /** Units accused that are not the fault's. */
  readonly strangers: readonly string[];
  /** Settings of the fault that the verdict recovered, of those it could be compared on. */
  readonly parameters: { readonly recovered: number; readonly compared: number };
  readonly milliseconds: number;
  /** What other ways to compare with a correct run say; absent unless asked for. */
  readonly baselines?: Readonly<Record<Criterion["id"], BaselineOutcome>>;
}

/** placed: the first value called different is the fault's first. elsewhere: it is another. missed: none is. */
export type BaselineOutcome = "placed" | "elsewhere" | "missed";

/** Compares a verdict with what was done to the run. */
export function scoreVerdict(trial: Trial, verdict: Verdict, milliseconds: number): Score {
  const { fault, run, model, store, layers, values } = trial;
  const visible = [...unitsBeyondNoise(trial).keys()].filter((unit) => run.bad.has(unit));
  const accused = [...verdict.findings.map(({ unit }) => unit), ...verdict.causes.flatMap(({ units }) => units)];
  const strangers = [...new Set(accused)].filter((unit) => !run.bad.has(unit) && !isInside(trial, unit));
  const names = (ids: readonly CauseId[]) => ids.some((id) => fault.expected.includes(id));
  const right = verdict.causes.filter(({ cause }) => names([cause]));
  const possible = verdict.causes.filter(({ cause, alternatives }) => names([cause, ...alternatives]));
  const outcome = (): Outcome => {
    if (strangers.length > 0) return "false-alarm";
    if (verdict.causes.length === 0 && verdict.findings.length === 0) return visible.length > 0 ? "missed" : "hidden";
    const all = new Set(possible.map(({ cause }) => cause)).size >= (fault.together ?? 1);
    if (all && verdict.causes.length > 0 && right.length === verdict.causes.length) return "named";
    if (all && verdict.causes.length > 0 && possible.length === verdict.causes.length) return "ambiguous";
    return verdict.causes.length === 0 ? "unexplained" : "placed";
  };
  return {
    fault: fault.id,
    kind: fault.kind,
    model: `${model.config.modelType} ${model.config.layerCount} layers`,
    store,
    layers: fault.scope === "model" ? [] : layers,
    recorded: trial.recorded,
    values,
    outcome: outcome(),
    verdict: verdict.verdict,
    causes: verdict.causes.map(({ cause, alternatives }) => [cause, ...alternatives].join(" | ")),
    strangers,
    parameters: compareParameters(values, right),
    milliseconds,
  };
}

/** Whether others would have found the place. */
function scoreBaselines(trial: Trial): NonNullable<Score["baselines"]> {
  const first = firstDifferences(trial.model, trial.run);
  const outcome = (name: string | undefined): BaselineOutcome => {
    if (name === undefined) return "missed";
    return trial.run.bad.has(name) || isInside(trial, name) ? "placed" : "elsewhere";
  };
  return { allclose: outcome(first.allclose), cosine: outcome(first.cosine), relative: outcome(first.relative) };
}

/** Whether the unit lies inside the chain that a bad unit stands for: a cause may name the unrecorded value itself. */
function isInside({ run }: Trial, unit: string): boolean {
  if (run.recorded.has(unit)) return false;
  const pending = [unit];
  while (pending.length > 0) {
    const name = pending.pop()!;
    if (run.bad.has(name)) return true;
    if (!run.recorded.has(name)) pending.push(...run.spec.consumers(name));
  }
  return false;
}

function compareParameters(values: FaultValues, causes: Verdict["causes"]) {
  let recovered = 0;
  let compared = 0;
  for (const [name, drawn] of Object.entries(values)) {
    const found = causes.map(({ parameters }) => parameters[name]).find((value) => value !== undefined);
    if (found === undefined || typeof found !== typeof drawn) continue;
    compared++;
    if (typeof drawn === "string") recovered += drawn === found ? 1 : 0;
    else if (Math.abs(Number(found) - drawn) <= 0.05 * Math.abs(drawn)) recovered++;
  }
  return { recovered, compared };
}

export interface BenchmarkOptions {
  readonly models: readonly LabModel[];
  readonly faults: readonly Fault[];
  readonly stores: readonly DType[];
  /** Draws per fault, model and store. */
  readonly seeds: number;
  /** Folder for recordings; each is removed once judged. */
  readonly folder: string;
  /** Layers to inject into; a drawn one unless given. */
  readonly layers?: readonly number[];
  /** Draw also how the rest of the run is computed. */
  readonly legal?: boolean;
  /** Record a part of the run only, drawn. */
  readonly partial?: boolean;
  /** Also compare each run with a correct one, the way people do without a checker. */
  readonly baselines?: boolean;
}

/** Injects every fault into every model that it applies to, diagnoses the recording, and scores the verdict. */
export async function* benchmark(options: BenchmarkOptions): AsyncGenerator<Score> {
  const { models, faults, stores, seeds, folder, layers, legal = false, partial = false, baselines = false } = options;
  for (const fault of faults) {
    for (const model of models) {
      for (const store of stores) {
        for (let seed = 1; seed <= seeds; seed++) {
          const trial = runTrial({ model, fault, store, seed, folder, legal, partial, ...(layers ? { layers } : {}) });
          if (!trial) continue;
          try {
            const start = performance.now();
            const verdict = await diagnose({ target: trial.run.path, model: model.directory });
            const score = scoreVerdict(trial, verdict, performance.now() - start);
            yield baselines ? { ...score, baselines: scoreBaselines(trial) } : score;
          } finally {
            discard(trial);
          }
        }
      }
    }
  }
}

/** How often each outcome was reached. */
export function tally(scores: Iterable<Score>): Record<Outcome, number> {
  const counts = { named: 0, ambiguous: 0, unexplained: 0, placed: 0, "false-alarm": 0, missed: 0, hidden: 0 };
  for (const { outcome } of scores) counts[outcome]++;
  return counts;
}
