import type { CachedType } from "../../capture/cache-formats.js";
import type { DType } from "../../tensor/dtype.js";
import { mayStore, recordSpread } from "../../tensor/scaled-type.js";
import type { Investigation } from "../check/investigation.js";
import type { DirectCause } from "./direct-cause.js";

/** A key that a step reads: whose it is, which row computed it, and the flat slot it is read from. */
export interface Key {
  readonly b: number;
  readonly position: number;
  readonly row: number;
  readonly slot: number;
}

/** What was to be stored for a row: its producer's record, or what the cache held when it was written. */
export interface Produced {
  readonly value: Float64Array;
  /** Type of the producer's record; undefined when the cache itself is the record. */
  readonly recorded: DType | undefined;
}

/** A key that is not what was appended: the numbers its slot holds, and what was produced. */
export interface WrongKey {
  readonly key: Key;
  readonly produced: Produced;
  readonly stored: Float64Array;
}

/** Why keys are wrong, before it is said where. */
export type CacheCause = Pick<DirectCause, "cause" | "kind" | "transform" | "statement" | "parameters">;

/** What the append was given for a row; undefined when nobody recorded it. */
export function producedFor({ observations, graph }: Investigation, name: string, row: number): Produced | undefined {
  if (observations.rows.stepOf[row]! < 0) return undefined;
  const produced = observations.output(graph.node(name).inputs[0]!, row);
  if (produced) return { value: produced.value, recorded: produced.dtype };
  const written = observations.output(name, row);
  return written && { value: written.value, recorded: undefined };
}

/** Whether a slot's numbers are what a correct append leaves of what was produced, in the type the reader takes them for. */
export function holds(stored: Float64Array, { value, recorded }: Produced, type: CachedType): boolean {
  return stored.every((x, i) => {
    const meant = value[i]!;
    if (x === meant && type.scale === 1) return true;
    return mayStore(x, meant, type, recordSpread(meant, recorded, type) + Math.abs(meant) * type.error);
  });
}

/** Whether the row's slot held the right numbers right after its step wrote it; undefined when that was not recorded. */
export function rightWhenWritten(
  investigation: Investigation,
  name: string,
  row: number,
  produced: Produced,
): boolean | undefined {
  const written = whenWritten(investigation, name, row);
  return written && holds(written.stored, produced, written.type);
}

/** What the row's slot held right after its step wrote it, and as what; undefined when that was not recorded. */
export function whenWritten(
  { observations, capture }: Investigation,
  name: string,
  row: number,
): { stored: Float64Array; type: CachedType } | undefined {
  const stepIndex = observations.rows.stepOf[row]!;
  const placed = observations.pagedAt(name, stepIndex, "output");
  const slots = capture.steps[stepIndex]?.slot_mapping;
  const type = placed && observations.cachedType(placed);
  const stored = placed && observations.storedRow(placed, slots?.[row - observations.rows.steps[stepIndex]!.firstRow]);
  return type && stored && { stored: stored.value, type };
}
