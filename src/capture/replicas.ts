import type { GraphNode } from "../spec/graph.js";
import type { RowTable } from "../spec/rows.js";
import type { Assembly } from "./assembly.js";
import type { Capture, DenseRecord } from "./capture.js";
import { firstColumnOf, type PlacedDense, partOf, placeDense } from "./placed-dense.js";

/** A value, or a part of one, as two ranks recorded it. */
export interface Replica {
  readonly node: GraphNode;
  readonly of: PlacedDense;
  readonly other: PlacedDense;
  /** The part's own columns within the value. */
  readonly firstColumn: number;
  readonly columns: number;
}

/** What further ranks recorded of an assembled value, beside the record that stands for it. */
export function placeReplicas(
  { records, replicas }: Assembly,
  stepIndex: number,
  node: GraphNode,
  table: RowTable,
  capture: Capture,
): Replica[] {
  return [...replicas].flatMap(([part, others]) => {
    const { shard } = records[part]!;
    const own = shard ? partOf(node, shard) : node;
    const placed = (record: DenseRecord) => placeDense(record, stepIndex, own, table, capture).placed;
    const place = { node, columns: own.columns, firstColumn: shard ? firstColumnOf(node, shard) : 0 };
    const of = placed(records[part] as DenseRecord);
    return (others as readonly DenseRecord[]).map((other) => ({ ...place, of, other: placed(other) }));
  });
}
