import type { GraphNode } from "../../spec/graph.js";
import type { RecordedRun } from "./recorded-run.js";

/** Layers of which a unit rests on unrecorded values, first and last. */
export interface Span {
  readonly first: number;
  readonly last: number;
}

/** The layers that a unit's recorded inputs and its record bracket; undefined when all of them are the unit's own. */
export function spanOf(run: RecordedRun, unit: GraphNode): Span | undefined {
  const layers = unrecorded(run, unit).flatMap(({ layer }) => layer ?? []);
  if (layers.length === 0 || layers.every((layer) => layer === unit.layer)) return undefined;
  return { first: Math.min(...layers), last: Math.max(...layers) };
}

/** "layers 2 to 5" or "layer 2". */
export function spanText({ first, last }: Span): string {
  return first === last ? `layer ${first}` : `layers ${first} to ${last}`;
}

/** What to record to see further into a unit: the middle of its span, or the values inside its layer, nearest first. */
export function toRecord(run: RecordedRun, unit: GraphNode): string[] {
  const inside = unrecorded(run, unit);
  const span = spanOf(run, unit);
  if (!span || span.first === span.last) return inside.slice(0, 3).map(({ name }) => name);
  const middle = Math.floor((span.first + span.last - 1) / 2);
  const stream = inside.find(({ name }) => name === run.graph.streamAfter(middle)?.name);
  return [(stream ?? inside[0]!).name];
}

function unrecorded(run: RecordedRun, unit: GraphNode): GraphNode[] {
  return run.interior(unit.name).filter(({ name }) => name !== unit.name);
}
