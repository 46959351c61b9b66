import { Evaluator, type Observations } from "../spec/evaluator.js";
import type { Investigation, UnitCheck } from "./investigation.js";

/**
 * Whether a failing unit's record is wrong and the run is not (a buffer overwritten after use, before it was dumped):
 * units that read the recorded value then fail as well, and all of them come out right from what the spec means instead.
 */
export function recordIsWrong(investigation: Investigation, check: UnitCheck, failing: ReadonlySet<string>): boolean {
  const masked = aliases(investigation, check.node.name).filter(
    (name) => failing.has(name) || name === check.node.name,
  );
  const readers = readersOf(investigation, masked);
  if (readers.length === 0 || !readers.every((name) => failing.has(name))) return false;
  const { graph, parameters, rows, precision } = investigation.evaluator;
  const evaluator = new Evaluator({
    graph,
    parameters,
    rows,
    precision,
    noise: true,
    observations: without(investigation.observations, new Set(masked)),
  });
  return readers.every((name) => investigation.check(name, evaluator).excess <= 1);
}

/** Units that the wrong record makes fail. */
export function readersOf(investigation: Investigation, names: readonly string[]): string[] {
  return investigation
    .units()
    .filter(
      (node) =>
        !names.includes(node.name) &&
        investigation.interior(node.name).some((inner) => inner.inputs.some((input) => names.includes(input))),
    )
    .map((node) => node.name);
}

/** The value and the names under which modules pass it on unchanged. */
export function aliases(investigation: Investigation, name: string): string[] {
  const found = [name];
  for (const alias of found) {
    for (const consumer of investigation.graph.consumers(alias)) {
      if (investigation.graph.node(consumer).op.kind === "identity" && !found.includes(consumer)) found.push(consumer);
    }
  }
  return found;
}

function without(observations: Observations, hidden: ReadonlySet<string>): Observations {
  return {
    has: (name) => !hidden.has(name) && observations.has(name),
    row: (name, row, consumer, readAt) =>
      hidden.has(name) ? undefined : observations.row(name, row, consumer, readAt),
  };
}
