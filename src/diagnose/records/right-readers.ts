import { Evaluator, type Observations } from "../../spec/evaluator.js";
import type { DirectCause } from "../causes/direct-cause.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import { comesOutRight, readersOf } from "./observer.js";

/**
 * Causes of seams, with the failing units that come out right from what was produced: these did not read what the seam's
 * record says they did, and no rewrite of the spec has to be searched for them.
 */
export function withRightReaders(
  investigation: Investigation,
  causes: readonly DirectCause[],
  failing: readonly UnitCheck[],
): DirectCause[] {
  const accused = new Set(causes.map(({ unit }) => unit));
  const readers = new Set(readersOf(investigation, [...accused]));
  const read = failing.filter(({ node }) => readers.has(node.name) && !investigation.isDeep(node.name));
  if (read.length === 0) return [...causes];
  const { graph, parameters, rows, precision } = investigation.evaluator;
  const observations = asProduced(investigation, accused);
  const evaluator = new Evaluator({ graph, parameters, rows, precision, noise: true, observations });
  const right = read.filter((check) => comesOutRight(investigation, check, evaluator)).map(({ node }) => node.name);
  return causes.map((cause) => {
    const own = new Set(readersOf(investigation, [cause.unit]));
    const names = right.filter((name) => own.has(name));
    if (names.length === 0) return cause;
    const statement = `${cause.statement}; ${names.join(", ")} came of what was produced all the same: what reads it differs from its record`;
    return { ...cause, statement, readers: names };
  });
}

/** The recording with the accused reads as their producers meant them: dense values as written, caches as appended. */
function asProduced({ observations }: Investigation, accused: ReadonlySet<string>): Observations {
  const isCache = (name: string) => observations.pagedRecords(name).length > 0;
  return {
    has: (name) => !(accused.has(name) && isCache(name)) && observations.has(name),
    row: (name, row, consumer, readAt) => {
      if (!accused.has(name)) return observations.row(name, row, consumer, readAt);
      return isCache(name) ? undefined : observations.output(name, row);
    },
    settled: (name, row, op) => observations.settled(name, row, op),
  };
}
