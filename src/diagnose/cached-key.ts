import type { PagedView } from "../capture/format.js";
import { roundTo } from "../tensor/dtype.js";
import type { Investigation } from "./investigation.js";
import type { DirectCause } from "./metadata.js";

/** A key that a step reads: whose it is, which row computed it, and the flat slot it is read from. */
export interface Key {
  readonly b: number;
  readonly position: number;
  readonly row: number;
  readonly slot: number;
}

/** A key that is not what was appended. */
export interface WrongKey {
  readonly key: Key;
  readonly expected: Float64Array;
  readonly read: Float64Array;
}

/** Why keys are wrong, before it is said where. */
export type CacheCause = Pick<DirectCause, "cause" | "kind" | "transform" | "statement" | "parameters">;

/** What the append meant to store for a row, in the cache's type; undefined when nobody recorded it. */
export function meant(
  { observations, graph }: Investigation,
  name: string,
  row: number,
  view: PagedView,
): Float64Array | undefined {
  if (observations.rows.stepOf[row]! < 0) return undefined;
  const source = graph.node(name).inputs[0]!;
  const produced = observations.output(source, row)?.value ?? observations.output(name, row)?.value;
  return produced?.map((x) => roundTo(x, view.dtype));
}

export function same(a: Float64Array, b: Float64Array): boolean {
  return a.every((x, i) => x === b[i] || (Number.isNaN(x) && Number.isNaN(b[i]!)));
}
