import type { Sample } from "../../diagnose/bits/sample.js";
import type { Investigation } from "../../diagnose/check/investigation.js";
import { indices } from "../../spec/op.js";

/** Elements of one unit that are evaluated for a map. */
const mostElements = 2 ** 18;
const mostRows = 512;

/** Multiply-adds of evaluating so many rows and columns of a unit. */
export function costOf(investigation: Investigation, name: string, { rows, columns }: Sample): number {
  const table = investigation.observations.rows;
  let keys = 0;
  for (const row of rows) keys += table.keyCount(row);
  let cost = 0;
  for (const node of investigation.interior(name)) {
    const wide = node.name === name ? columns.length : node.columns;
    if (node.op.kind === "attention") cost += 4 * keys * wide;
    else if (/linear/.test(node.op.kind))
      cost += rows.length * wide * (investigation.graph.find(node.inputs[0]!)?.columns ?? 1);
    else cost += 8 * rows.length * wide;
  }
  return cost;
}

/**
 * The elements of a unit to look at: all that were recorded where that costs less than `budget`, else those that were
 * judged, else fewer rows of them.
 * @param step index of the only step wanted.
 * @returns undefined where even few elements cost more.
 */
export function shownSample(
  investigation: Investigation,
  name: string,
  budget: number,
  step?: number,
): Sample | undefined {
  const { observations, graph } = investigation;
  const node = graph.node(name);
  const ofStep = (rows: Int32Array) =>
    step === undefined ? rows : rows.filter((row) => observations.rows.stepOf[row] === step);
  const all = ofStep(observations.outputRows(name));
  if (all.length === 0) return undefined;
  const fits = (sample: Sample) =>
    sample.rows.length > 0 &&
    sample.rows.length * sample.columns.length <= mostElements &&
    costOf(investigation, name, sample) <= budget;
  const whole = { rows: all, columns: indices(node.columns) };
  if (all.length <= mostRows && fits(whole)) return whole;
  const judged = investigation.sample(name);
  const own = { rows: ofStep(judged.rows), columns: judged.columns };
  const candidates = [
    { rows: all, columns: own.columns },
    { rows: own.rows.length > 0 ? own.rows : all, columns: own.columns },
    ...[24, 12, 6, 3].map((rows) => ({
      rows: spread(own.rows.length > 0 ? own.rows : all, rows),
      columns: own.columns,
    })),
  ];
  return candidates.find((sample) => sample.rows.length <= mostRows && fits(sample));
}

function spread(rows: Int32Array, most: number): Int32Array {
  if (rows.length <= most) return rows;
  return Int32Array.from({ length: most }, (_, i) => rows[Math.floor((i * rows.length) / most)]!);
}
