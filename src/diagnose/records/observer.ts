import { Evaluator, type Observations } from "../../spec/evaluator.js";
import { roleOf } from "../../spec/site.js";
import { classed } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";

/**
 * Failing units whose record is wrong while the run is not (a buffer overwritten after use, before it was dumped): every
 * unit that reads such a value fails as well, and all of them come out right from what the spec means instead.
 */
export function wrongRecords(investigation: Investigation, failing: readonly UnitCheck[]): string[] {
  const names = new Map(failing.map((check) => [check.node.name, check]));
  const masks = new Map<string, readonly string[]>();
  for (const { node } of failing) {
    if (investigation.isDeep(node.name)) continue;
    const mask = [aliases(investigation, node.name), [node.name]].find((hidden) => {
      const readers = readersOf(investigation, hidden);
      return readers.length > 0 && readers.every((reader) => names.has(reader));
    });
    if (mask) masks.set(node.name, mask);
  }
  for (const chosen of [[...masks.keys()], ...[...masks.keys()].map((name) => [name])]) {
    const hidden = chosen.flatMap((name) => masks.get(name)!);
    if (hidden.length > 0 && explainsReaders(investigation, hidden, names)) return chosen;
  }
  return [];
}

/** How much nearer readers must come without a record that is wrong. */
const clearly = 4;

function explainsReaders(
  investigation: Investigation,
  hidden: readonly string[],
  failing: ReadonlyMap<string, UnitCheck>,
): boolean {
  const { graph, parameters, rows, precision } = investigation.evaluator;
  const observations = without(investigation.observations, new Set(hidden));
  const evaluator = new Evaluator({ graph, parameters, rows, precision, noise: true, observations });
  return readersOf(investigation, hidden).every((name) => comesOutRight(investigation, failing.get(name)!, evaluator));
}

/** Whether a failing unit comes out right from other inputs than its recorded ones, which `evaluator` gives it. */
export function comesOutRight(investigation: Investigation, failing: UnitCheck, evaluator: Evaluator): boolean {
  const check = investigation.checkRewritten(failing.node.name, evaluator);
  // Where a recipe gives the bits of such units, being within rounding is not enough.
  const givesBits = investigation.book.settled.get(roleOf(failing.node))?.score.matched === true;
  if (givesBits) return check.matched;
  // And a wrong record must make a difference: what is left uncertain in its place makes every reader look better.
  return check.excess <= 1 && clearly * check.excess <= failing.excess;
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

/** Findings whose record is wrong while the run went on with the right value, and those that are left. */
export function overwrittenRecords(
  investigation: Investigation,
  failing: readonly UnitCheck[],
): { observed: DirectCause[]; rest: UnitCheck[] } {
  const wrong = wrongRecords(investigation, failing);
  const settled = new Set([
    ...wrong,
    ...readersOf(
      investigation,
      wrong.flatMap((name) => aliases(investigation, name)),
    ),
  ]);
  const observed = wrong.map((name): DirectCause => {
    const check = failing.find(({ node }) => node.name === name)!;
    return {
      ...classed("record-overwritten"),
      unit: name,
      step: investigation.capture.steps[0]!.step,
      layer: check.node.layer,
      parameters: {},
      statement: `the record of ${name} is wrong, the run is not: everything that read it follows from the right value (a buffer reused before it was dumped)`,
      group: "record-overwritten",
      samples: check.statistics.checked,
    };
  });
  return { observed, rest: failing.filter((check) => !settled.has(check.node.name)) };
}
