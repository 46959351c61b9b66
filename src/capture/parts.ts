import type { Graph, GraphNode } from "../spec/graph.js";
import type { DenseRecord } from "./capture.js";

/**
 * The values of the spec that a record holds side by side, as its family declares: q, k and v of one projection. Each is
 * a view of its own columns; empty when the record holds no such values, or not as many columns.
 */
export function partsOf(record: DenseRecord, graph: Graph): { node: GraphNode; record: DenseRecord }[] {
  const { view } = record;
  const last = view.shape.length - 1;
  return [...graph.parts].flatMap(([name, part]) => {
    if (part.name !== record.name || view.shape[last] !== part.of) return [];
    const node = graph.node(name);
    const shape = [...view.shape.slice(0, last), node.columns];
    const first = part.first * view.strides[last]!;
    return [{ node, record: { ...record, name, view: { ...view, shape }, first } }];
  });
}
