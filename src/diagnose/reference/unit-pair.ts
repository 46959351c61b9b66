import type { Evaluator } from "../../spec/evaluator.js";
import { storeVariance } from "../../spec/noise.js";
import { usableVariance } from "../../spec/op.js";
import { drawSample } from "../bits/sample.js";
import type { Investigation } from "../check/investigation.js";
import type { AlignedRows, RowPair } from "./aligned-rows.js";

/** Elements of one value that two runs recorded of the same tokens. */
export interface UnitPair {
  readonly unit: string;
  readonly rows: readonly RowPair[];
  readonly columns: Int32Array;
}

/** Both runs' records of a pair, and what the spec makes of each one's own inputs: [target, reference], rows by columns. */
export interface EvaluatedPair {
  readonly observed: readonly [Float64Array, Float64Array];
  readonly expected: readonly [Float64Array, Float64Array];
  /** One-sigma rounding of both together; empty unless asked for. */
  readonly noise: Float64Array;
}

/**
 * The sample on which two runs are compared in a unit: of the size that the target's own check has, with the columns that
 * either check suspected.
 * @returns undefined where no row of the value was recorded by both.
 */
export function alignedSample(
  target: Investigation,
  reference: Investigation,
  unit: string,
  rows: AlignedRows,
): UnitPair | undefined {
  const node = target.graph.find(unit);
  if (!node || reference.graph.find(unit)?.columns !== node.columns) return undefined;
  const pairs = rows.pairs(target.observations.outputRows(unit), reference.observations.outputRows(unit));
  if (pairs.length === 0) return undefined;
  const own = target.sample(unit);
  const candidates = Int32Array.from(pairs, (pair) => pair.target);
  const suspects = [...own.rows];
  const limits = { rows: own.rows.length, columns: own.columns.length };
  const drawn = drawSample(node, candidates, target.observations.rows, limits, suspects);
  const chosen = new Set(drawn.rows);
  const columns = new Set([...own.columns, ...(reference.suspects(unit)?.columns ?? [])]);
  return {
    unit,
    rows: pairs.filter((pair) => chosen.has(pair.target)),
    columns: Int32Array.from(columns).sort(),
  };
}

/** A run and how its units are evaluated. */
export interface EvaluatedRun {
  readonly investigation: Investigation;
  readonly evaluator: Evaluator;
}

/** Evaluates a pair in float64, on each run's own inputs; their noise where both evaluators have one. */
export function evaluatedBoth(runs: readonly [EvaluatedRun, EvaluatedRun], pair: UnitPair): EvaluatedPair {
  const [a, b] = [side(runs[0], pair, "target"), side(runs[1], pair, "reference")];
  const noisy = runs.every(({ evaluator }) => evaluator.noise);
  const noise = noisy ? a.expected.map((_, i) => noiseOf(a.variance(i) + b.variance(i))) : new Float64Array(0);
  return { observed: [a.observed, b.observed], expected: [a.expected, b.expected], noise };
}

function side({ investigation, evaluator }: EvaluatedRun, { unit, rows, columns }: UnitPair, which: keyof RowPair) {
  const own = Int32Array.from(rows, (pair) => pair[which]);
  const block = evaluator.evaluate(unit, own, columns);
  const dtype = investigation.observations.dtype(unit)!;
  const variance = (i: number) =>
    usableVariance(block, i) + (block.jump?.[i] ?? 0) ** 2 + storeVariance(block.value[i]!, dtype);
  return { expected: block.value, observed: investigation.observed(unit, own, columns), variance };
}

function noiseOf(variance: number): number {
  return Number.isFinite(variance) ? Math.sqrt(variance) : Infinity;
}
