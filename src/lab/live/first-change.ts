import { excess, surpriseLimit } from "../../diagnose/bits/limits.js";
import { compareBlock, statisticsOf } from "../../diagnose/bits/statistics.js";
import { lastRows } from "../../engine/run/batch.js";
import { placeRows } from "../../engine/run/placed-rows.js";
import { Evaluator, type Observations } from "../../spec/evaluator.js";
import { indices } from "../../spec/op.js";
import type { LiveRun } from "./live-run.js";

/**
 * The first of some values that the unchanged model does not make of what the changed run computed before it, but for
 * rounding: each is judged from the changed run's own inputs, so that a value is not blamed for those before it, and by
 * the noise model and the counted chance by which recordings are judged.
 * @param names values that differ, in execution order.
 */
export function firstBeyondRounding(
  unchanged: LiveRun,
  changed: LiveRun,
  names: readonly string[],
  elements: number,
): string | undefined {
  const { graph, parameters } = unchanged.model;
  const { values } = changed;
  const rows = placeRows(values.batch!);
  const own = rows.rowsOf(0);
  const last = lastRows(values.batch!).map((row) => own[0]! + row);
  /** Rows of the table that a recorded value holds. */
  const rowsOf = (name: string, columns: number) => (values.get(name)!.length === columns * own.length ? own : last);
  const observations: Observations = {
    has: (name) => graph.find(name) !== undefined && values.get(name) !== undefined,
    row(name, row) {
      const { columns } = graph.node(name);
      const at = rowsOf(name, columns).indexOf(row);
      if (at < 0) return undefined;
      const value = values.get(name)!.slice(at * columns, (at + 1) * columns);
      return { value, dtype: "float32", exact: false };
    },
  };
  const precision = { store: "float32", compute: "float32" } as const;
  const evaluator = new Evaluator({ graph, parameters, rows, precision, observations, noise: true });
  const limit = surpriseLimit(elements);
  return names.find((name) => {
    const { columns } = graph.node(name);
    const at = rowsOf(name, columns);
    const block = evaluator.evaluate(name, at);
    const comparison = compareBlock(block, values.get(name)!, "float32", at, indices(columns));
    return excess(statisticsOf(comparison), limit) > 1;
  });
}
