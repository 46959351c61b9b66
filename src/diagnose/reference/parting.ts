import type { Graph } from "../../spec/graph.js";
import type { CauseId } from "../causes/catalogue.js";
import type { AlignedRows } from "./aligned-rows.js";
import type { Departure, Departures, Standing } from "./departure.js";
import type { SharedFault } from "./shared-faults.js";

/** The first place at which two runs part beyond rounding. */
export interface Parting {
  readonly unit: string;
  readonly layer: number | null;
  /** Steps by their numbers: the target's, and the one in which the reference computed the same token. */
  readonly step: number;
  readonly referenceStep: number;
  /** First row that is wrong, by its sequence and position in the target. */
  readonly sequence: number;
  readonly position: number;
  /** Which run departs from the model there. */
  readonly wrong: "target" | "reference" | "both";
  /** What the other run says of the value: right, or not recorded. */
  readonly other: Standing;
  /** The cause in the wrong run's verdict (the target's where both are wrong); null when nothing explains it. */
  readonly cause: CauseId | null;
  /** The reference's cause where both are wrong. */
  readonly otherCause: CauseId | null;
}

/** A departure of one run, placed in the target's order of execution. */
interface PlacedDeparture {
  readonly side: "target" | "reference";
  readonly departure: Departure;
  readonly row: number;
  readonly referenceRow: number;
  readonly step: number;
  readonly order: number;
}

/**
 * The first departure in the target's order of execution that the runs do not share, in rows that both computed: by what is
 * wrong from its own inputs, so that an error which only came in from before is not taken for it.
 */
export function findParting(
  target: Departures,
  reference: Departures,
  shared: readonly SharedFault[],
  rows: AlignedRows,
): Parting | null {
  const graphs = [target, reference].map(({ run }) => run.investigation.graph) as [Graph, Graph];
  const order = new Map([...graphs[0].nodes.keys()].map((name, i) => [name, i]));
  const table = target.run.investigation.observations.rows;
  const inReference = new Map<number, number>();
  for (let row = table.count - 1; row >= 0; row--) for (const other of rows.of(row)) inReference.set(other, row);
  const placed: PlacedDeparture[] = [];
  for (const side of ["target", "reference"] as const) {
    const [own, other] = side === "target" ? [target, reference] : [reference, target];
    for (const departure of own.all) {
      const { unit, cause } = departure;
      const isShared = shared.some((fault) => (cause === null ? fault.units.includes(unit) : fault[side] === cause));
      if (isShared && other.at(unit, own.run.investigation.graph) !== "right") continue;
      const pairs = departure.rows
        .map((row) => (side === "target" ? [row, rows.of(row)[0]] : [inReference.get(row), row]))
        .filter((pair): pair is [number, number] => pair[0] !== undefined && pair[1] !== undefined)
        .sort((a, b) => a[0] - b[0]);
      const [first] = pairs;
      if (!first) continue;
      const step = table.stepOf[first[0]]!;
      placed.push({
        side,
        departure,
        row: first[0],
        referenceRow: first[1],
        step,
        order: placeOf(unit, graphs, order),
      });
    }
  }
  placed.sort((a, b) => a.step - b.step || a.order - b.order || (a.side === "target" ? -1 : 1));
  const [first] = placed;
  return first ? partingAt(first, target, reference) : null;
}

/** Place of a value in the target's graph: its own, or that of the first value that rests on it; the host's work comes first. */
function placeOf(name: string, [ours, theirs]: readonly [Graph, Graph], order: ReadonlyMap<string, number>): number {
  const own = order.get(name);
  if (own !== undefined) return own;
  if (!ours.find(name) && !theirs.find(name)) return -1;
  const readers = theirs.consumers(name).map((reader) => order.get(reader) ?? Number.POSITIVE_INFINITY);
  return Math.min(...readers) - 0.5;
}

function partingAt({ side, departure, row, referenceRow }: PlacedDeparture, target: Departures, reference: Departures) {
  const [own, other] = side === "target" ? [target, reference] : [reference, target];
  const { graph } = own.run.investigation;
  const standing = other.at(departure.unit, graph);
  const ours = target.run.investigation.observations.rows;
  const theirs = reference.run.investigation.observations.rows;
  const parting: Parting = {
    unit: departure.unit,
    layer: graph.find(departure.unit)?.layer ?? null,
    step: ours.steps[ours.stepOf[row]!]!.step,
    referenceStep: theirs.steps[theirs.stepOf[referenceRow]!]!.step,
    sequence: ours.seqId[row]!,
    position: ours.position[row]!,
    wrong: standing === "wrong" ? "both" : side,
    other: standing,
    cause: causeOf(own, departure.cause),
    otherCause: causeOf(other, other.all.find(({ unit }) => unit === departure.unit)?.cause ?? null),
  };
  return parting;
}

function causeOf({ run }: Departures, index: number | null): CauseId | null {
  return index === null ? null : run.verdict.causes[index]!.cause;
}
