import { excess } from "../bits/limits.js";
import { statisticsOf } from "../bits/statistics.js";
import type { UnitCheck } from "../check/investigation.js";
import type { AssembledCause } from "../explain/assemble.js";
import { combine } from "../explain/combine.js";
import type { AlignedRows } from "./aligned-rows.js";
import type { JudgedRun } from "./judged-run.js";
import { alignedSample, type EvaluatedRun, evaluatedBoth } from "./unit-pair.js";

/** A fault that both runs have. */
export interface SharedFault {
  /** Index into the target's causes and into the reference's; null where nothing names it there. */
  readonly target: number | null;
  readonly reference: number | null;
  /** Units of the reference that show it. */
  readonly units: readonly string[];
}

/** Units of the reference on which one cause of the target is tried. */
const mostTried = 6;

/**
 * Faults of the target that the reference has too. The test of a cause is to write it, with the target's numbers, into the
 * spec by which the reference is judged: the same fault when units of the reference come out right with it that fail
 * without. What records show without a rewrite is the same where it has one name in one place, and what nothing explains
 * where both runs err by the same amounts up to rounding.
 */
export function sharedFaults(target: JudgedRun, reference: JudgedRun, rows: AlignedRows): SharedFault[] {
  const failing = reference.checks.filter((check) => check.excess > 1);
  const byCause = target.causes.map((cause) =>
    cause.cause.latent ? [] : cause.hypotheses.length > 0 ? righted(reference, failing, [cause]) : [],
  );
  // Causes that sit in one unit together explain it only together.
  const alone = new Set(byCause.flat());
  const left = failing.filter(({ node }) => !alone.has(node.name));
  const together = target.causes.length > 1 ? righted(reference, left, target.causes) : [];
  const found: SharedFault[] = [];
  target.causes.forEach((entry, i) => {
    const touched = together.filter((name) => touches(reference, entry, name));
    const units = entry.hypotheses.length > 0 ? [...byCause[i]!, ...touched] : sameRecords(entry, reference);
    if (units.length > 0) found.push({ target: i, reference: causeOf(reference, units, entry), units });
  });
  const unexplained = (run: JudgedRun) => run.verdict.findings.filter(({ cause }) => cause === null);
  const inBoth = new Set(unexplained(reference).map(({ unit }) => unit));
  const alike = unexplained(target)
    .map(({ unit }) => unit)
    .filter((unit) => inBoth.has(unit) && errAlike(target, reference, unit, rows));
  if (alike.length > 0) found.push({ target: null, reference: null, units: alike });
  return found;
}

/** Those of the failing units that come out right with causes of another run in the spec. */
function righted(
  { investigation }: JudgedRun,
  failing: readonly UnitCheck[],
  causes: readonly AssembledCause[],
): string[] {
  const hypotheses = causes.flatMap((cause) => cause.hypotheses);
  const nodes = combine(hypotheses);
  const evaluator = investigation.evaluator.rewritten(nodes);
  const rewritten = new Set(nodes.map(({ name }) => name));
  const recipes = [...new Set(hypotheses.flatMap((h) => [...(h.recipes?.values() ?? [])]))];
  return failing
    .map(({ node }) => node.name)
    .filter((name) => investigation.interior(name).some((inner) => rewritten.has(inner.name)))
    .filter((name) => evaluator.graph.isComputable(name))
    .slice(0, mostTried)
    .filter((name) => investigation.checkRewritten(name, evaluator, recipes).excess <= 1);
}

function touches({ investigation }: JudgedRun, { hypotheses }: AssembledCause, name: string): boolean {
  const rewritten = new Set(combine(hypotheses).map((node) => node.name));
  return investigation.interior(name).some((inner) => rewritten.has(inner.name));
}

/** Units at which the records of another run show the same. */
function sameRecords({ cause }: AssembledCause, reference: JudgedRun): string[] {
  if (cause.latent) return [];
  const same = reference.verdict.causes.filter((other) => other.cause === cause.cause && !other.latent);
  return cause.units.filter((unit) => same.some(({ units }) => units.includes(unit)));
}

/** The reference's own name for what it has in these units: the same one before any other. */
function causeOf(reference: JudgedRun, units: readonly string[], { cause }: AssembledCause): number | null {
  const candidates = reference.verdict.causes.flatMap((other, j) =>
    other.units.some((unit) => units.includes(unit)) ? [j] : [],
  );
  return candidates.find((j) => reference.verdict.causes[j]!.cause === cause.cause) ?? candidates[0] ?? null;
}

/** Whether the errors of both runs in one unit are equal up to the rounding of both. */
function errAlike(target: JudgedRun, reference: JudgedRun, unit: string, rows: AlignedRows): boolean {
  const pair = alignedSample(target.investigation, reference.investigation, unit, rows);
  if (!pair) return false;
  const { expected, observed, noise } = evaluatedBoth([noisy(target), noisy(reference)], pair);
  const z = noise.map((sigma, i) => {
    const [a, b] = [observed[0][i]!, observed[1][i]!];
    if (sigma === Infinity || (Object.is(a, b) && !Number.isFinite(a))) return 0;
    const apart = a - expected[0][i]! - (b - expected[1][i]!);
    return Number.isNaN(apart) ? Infinity : apart === 0 ? 0 : apart / sigma;
  });
  const targetRows = Int32Array.from(pair.rows, (both) => both.target);
  const comparison = { ...pair, rows: targetRows, expected: expected[0], observed: observed[0], noise, z };
  const statistics = statisticsOf(comparison);
  return statistics.checked > 0 && excess(statistics, target.investigation.limit) <= 1;
}

function noisy({ investigation }: JudgedRun): EvaluatedRun {
  return { investigation, evaluator: investigation.evaluator };
}
