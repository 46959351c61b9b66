import type { UnitCheck } from "../../diagnose/check/investigation.js";
import type { Detokenize } from "../../diagnose/prove/free-run.js";
import type { JudgedRun } from "../../diagnose/reference/judged-run.js";
import { float32Max } from "../../spec/noise.js";
import { roleOf } from "../../spec/site.js";
import { floatFormat } from "../../tensor/dtype.js";
import { cacheViews } from "./cache-views.js";
import type { RowView, RunView, UnitElements, ValueView } from "./page-data.js";
import { seamElements } from "./seam-elements.js";
import { costOf, shownSample } from "./shown-sample.js";
import { unitElements } from "./unit-elements.js";
import { valueViews } from "./value-views.js";

/** Multiply-adds of one map, and of all maps of a file together. */
const unitBudget = 6e7;
const fileBudget = 2.5e8;
/** Failing units shown, right ones beside them, and units of a run in which nothing fails. */
const mostFailing = 12;
const mostRight = 4;
const mostClean = 8;
/** Values whose readers got something else, drawn as written and as read. */
const mostSeams = 4;
/** Rows that are named by their tokens. */
const mostRows = 2 ** 14;

/** What is drawn of a judged run, taken while its files are open. */
export function runView(run: JudgedRun, detokenize: Detokenize): RunView {
  const { investigation, checks } = run;
  const values = valueViews(run);
  const { first, worst } = extremes(values);
  return {
    layers: investigation.config.layerCount,
    steps: investigation.observations.rows.steps.map(({ step, rowCount, seqIds }) => ({
      step,
      rows: rowCount,
      sequences: seqIds.length,
    })),
    values,
    first,
    worst,
    rows: rowViews(run, detokenize),
    elements: elementsOf(run, chosen(checks), values),
    caches: cacheViews(investigation),
    limits: limitsOf(run),
  };
}

function extremes(values: readonly ValueView[]): { first: number | null; worst: number | null } {
  const wrong = values.flatMap(({ state }, i) => (state === "wrong" || state === "seam" ? [i] : []));
  const size = (i: number) => values[i]!.maxZ ?? (values[i]!.state === "wrong" ? Infinity : 0);
  const worst = wrong.reduce((best, i) => (size(i) > size(best) ? i : best), wrong[0] ?? -1);
  return { first: wrong[0] ?? null, worst: worst < 0 ? null : worst };
}

function rowViews({ investigation }: JudgedRun, detokenize: Detokenize): RowView[] {
  const { rows } = investigation.observations;
  const spelled = new Map<number, string>();
  const text = (token: number) => {
    let known = spelled.get(token);
    if (known === undefined) {
      known = token >= 0 && detokenize ? detokenize([token]) : "";
      spelled.set(token, known);
    }
    return known;
  };
  return Array.from({ length: Math.min(rows.count, mostRows) }, (_, row) => ({
    step: rows.stepOf[row]!,
    sequence: rows.seqId[row]!,
    position: rows.position[row]!,
    token: rows.token[row]!,
    text: text(rows.token[row]!),
  }));
}

/** Failing units, first of them first and each kind at least once, and right ones beside them. */
function chosen(checks: readonly UnitCheck[]): UnitCheck[] {
  const failing = checks.filter(({ excess }) => excess > 1);
  if (failing.length === 0) return oneOfEachKind(checks.filter(judged)).slice(0, mostClean);
  const kinds = oneOfEachKind(failing);
  const shown = new Set([...failing.slice(0, mostFailing / 2), ...kinds, ...failing].slice(0, mostFailing));
  const right = checks.filter((check) => judged(check) && check.excess <= 1);
  const before = right.filter((check) => checks.indexOf(check) < checks.indexOf(failing[0]!)).slice(-mostRight / 2);
  for (const check of [...before, ...right].slice(0, mostRight)) shown.add(check);
  return checks.filter((check) => shown.has(check));
}

const judged = ({ matched, statistics }: UnitCheck) => matched || statistics.checked > 0;

function oneOfEachKind(checks: readonly UnitCheck[]): UnitCheck[] {
  const kinds = new Map<string, UnitCheck>();
  for (const check of checks) if (!kinds.has(roleOf(check.node))) kinds.set(roleOf(check.node), check);
  return [...kinds.values()];
}

/** Maps of the units, as long as they fit what a file may cost. */
function elementsOf(run: JudgedRun, checks: readonly UnitCheck[], values: readonly ValueView[]): UnitElements[] {
  const { investigation } = run;
  const seams = values.filter(({ state, op }) => state === "seam" && op !== "host").slice(0, mostSeams);
  const read = seams.flatMap(({ name }) => seamElements(investigation, name) ?? []);
  const shown = new Set(read.map(({ unit }) => unit));
  let left = fileBudget;
  const computed = checks.flatMap((check) => {
    const { name } = check.node;
    if (shown.has(name)) return [];
    // A failing unit is evaluated several times: as its recipe rounds, with its noise, and with the causes.
    const times = check.excess > 1 ? 4 : 1;
    const sample = shownSample(investigation, name, Math.min(unitBudget, left) / times);
    if (!sample) return [];
    left -= times * costOf(investigation, name, sample);
    return unitElements(run, check, sample) ?? [];
  });
  return [...read, ...computed];
}

function limitsOf({ investigation }: JudgedRun): RunView["limits"] {
  const { store } = investigation.precision;
  const format = floatFormat(store);
  return [
    { at: Math.sqrt(float32Max), what: "squares overflow float32" },
    ...(format && format.max < 1e300 ? [{ at: format.max, what: `${store} ends` }] : []),
  ];
}
