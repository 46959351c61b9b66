import type { Graph, GraphNode } from "../spec/graph.js";
import { emptyBlock, type Op, type OpContext } from "../spec/op.js";
import type { RowTable } from "../spec/rows.js";

/** Ops that faults are made of. They compute values only: a faulty run needs no rounding estimate. */

/** Where an element comes from; undefined fields mean the element's own place in input 0. */
export interface Place {
  readonly input?: number;
  readonly row?: number;
  readonly column?: number;
}

/** Every element fetched from another place of the inputs; `undefined` is a place never written: 0. */
export function gathered(from: (row: number, column: number, table: RowTable) => Place | undefined): Op {
  return {
    kind: "gathered",
    attributes: {},
    evaluate(context, rows, columns) {
      const out = emptyBlock(rows.length * columns.length, false);
      const places: ({ input: number; row: number; column: number } | undefined)[] = [];
      const wanted = new Map<number, Set<number>>();
      for (const row of rows) {
        for (const column of columns) {
          const place = from(row, column, context.rows);
          if (!place) {
            places.push(undefined);
            continue;
          }
          const full = { input: place.input ?? 0, row: place.row ?? row, column: place.column ?? column };
          places.push(full);
          const set = wanted.get(full.input) ?? new Set();
          wanted.set(full.input, set.add(full.row));
        }
      }
      const sources = new Map<number, { at: Map<number, number>; value: Float64Array; width: number }>();
      for (const [input, set] of wanted) {
        const list = Int32Array.from(set).sort();
        const at = new Map(Array.from(list, (row, i) => [row, i]));
        sources.set(input, { at, value: context.input(input, list).value, width: context.width(input) });
      }
      places.forEach((place, i) => {
        if (!place) return;
        const { at, value, width } = sources.get(place.input)!;
        out.value[i] = value[at.get(place.row)! * width + place.column]!;
      });
      return out;
    },
  };
}

/** A function of the same element of every input. */
export function elementwise(
  inputs: number,
  f: (values: readonly number[], row: number, column: number, table: RowTable) => number,
): Op {
  return {
    kind: "elementwise",
    attributes: {},
    evaluate(context, rows, columns) {
      const blocks = Array.from({ length: inputs }, (_, index) => context.input(index, rows, columns).value);
      const out = emptyBlock(rows.length * columns.length, false);
      for (let i = 0; i < out.value.length; i++) {
        const row = rows[Math.floor(i / columns.length)]!;
        out.value[i] = f(
          blocks.map((block) => block[i]!),
          row,
          columns[i % columns.length]!,
          context.rows,
        );
      }
      return out;
    },
  };
}

/** An op that depends on the rows it is given. */
export function dependent(kind: string, make: (context: OpContext) => Op): Op {
  return { kind, attributes: {}, evaluate: (context, rows, columns) => make(context).evaluate(context, rows, columns) };
}

/** `name` as it is meant, under another name, so that a faulty node can read it. */
export function meant(graph: Graph, name: string): GraphNode {
  return { ...graph.node(name), name: `${name} as meant` };
}

/** `name` computed as meant and then spoilt by `op`, which reads the meant value first and `others` after it. */
export function spoilt(graph: Graph, name: string, op: Op, others: readonly string[] = []): GraphNode[] {
  const right = meant(graph, name);
  return [right, { ...graph.node(name), op, inputs: [right.name, ...others] }];
}

/** `name` with its op replaced. */
export function withOp(graph: Graph, name: string, op: Op): GraphNode {
  return { ...graph.node(name), op };
}

/** Attributes of a node's op, as the spec's constructors take them. */
export function attributesOf<T>(graph: Graph, name: string): T {
  return graph.node(name).op.attributes as unknown as T;
}

/** Row within its step, counted from 0. */
export function rowInStep(table: RowTable, row: number): number {
  return row - table.steps[table.stepOf[row]!]!.firstRow;
}
