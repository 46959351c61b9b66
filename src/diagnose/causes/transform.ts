import type { GraphNode } from "../../spec/graph.js";
import { type Block, emptyBlock, type MutableBlock, type Op, raiseJump, scaled } from "../../spec/op.js";
import { copyOf, identity } from "../../spec/ops/identity.js";

/** An op whose result is changed afterwards: the form of every fitted transform. */
export function transformed(
  op: Op,
  attributes: Record<string, unknown>,
  apply: (block: Block, rows: Int32Array, columns: Int32Array) => Block,
): Op {
  return {
    kind: op.kind,
    attributes: { ...op.attributes, ...attributes },
    recipes: op.recipes,
    evaluate: (context, rows, columns) => apply(op.evaluate(context, rows, columns), rows, columns),
  };
}

/** value ↦ a · value + b with a and b per element. */
export function affine(
  op: Op,
  attributes: Record<string, unknown>,
  gain: (row: number, column: number) => number,
  offset?: (row: number, column: number) => number,
  offsetVariance?: (row: number, column: number) => number,
): Op {
  return transformed(op, attributes, (block, rows, columns) => {
    const noise = block.variance.length > 0;
    const out = emptyBlock(block.value.length, noise);
    forEachElement(rows, columns, (row, column, i) => {
      const a = gain(row, column);
      out.value[i] = (a === 0 ? 0 : block.value[i]! * a) + (offset?.(row, column) ?? 0);
      if (!noise) return;
      out.variance[i] = scaled(a * a, block.variance[i]!) + (offsetVariance?.(row, column) ?? 0);
      if (block.jump) raiseJump(out, i, Math.abs(a) * block.jump[i]!);
    });
    if (block.range) out.range = block.range;
    return out;
  });
}

/** Input 0 times a number per element: a product of its own, stored on its way unless a recipe says otherwise. */
export function multiplied(attributes: Record<string, unknown>, gain: (row: number, column: number) => number): Op {
  return affine({ ...identity(), kind: "multiply" }, attributes, gain);
}

/** Each element is another element of the same value, or a constant where `source` gives none. */
export function relabelled(
  op: Op,
  attributes: Record<string, unknown>,
  source: (row: number, column: number) => readonly [number, number] | undefined,
): Op {
  return {
    kind: op.kind,
    attributes: { ...op.attributes, ...attributes },
    recipes: op.recipes,
    evaluate(context, rows, columns) {
      const neededRows = new Set<number>();
      const neededColumns = new Set<number>();
      forEachElement(rows, columns, (row, column) => {
        const from = source(row, column);
        if (!from) return;
        neededRows.add(from[0]);
        neededColumns.add(from[1]);
      });
      const sourceRows = Int32Array.from(neededRows).sort();
      const sourceColumns = Int32Array.from(neededColumns).sort();
      const rowIndex = positions(sourceRows);
      const columnIndex = positions(sourceColumns);
      const block = op.evaluate(context, sourceRows, sourceColumns);
      const out = emptyBlock(rows.length * columns.length, context.noise);
      forEachElement(rows, columns, (row, column, i) => {
        const from = source(row, column);
        if (from) copyElement(block, rowIndex.get(from[0])! * sourceColumns.length + columnIndex.get(from[1])!, out, i);
      });
      return out;
    },
  };
}

/** Elements inside a region come from one op, the others from another. */
export function restricted(
  outside: Op,
  inside: Op,
  attributes: Record<string, unknown>,
  contains: (row: number, column: number) => boolean,
): Op {
  return {
    kind: outside.kind,
    attributes: { ...inside.attributes, ...attributes },
    recipes: outside.recipes ?? inside.recipes,
    evaluate(context, rows, columns) {
      const a = outside.evaluate(context, rows, columns);
      const b = inside.evaluate(context, rows, columns);
      const out = emptyBlock(rows.length * columns.length, context.noise);
      forEachElement(rows, columns, (row, column, i) => {
        copyElement(contains(row, column) ? b : a, i, out, i);
      });
      return out;
    },
  };
}

/** Input 1 inside a region, input 0 outside. */
export function either(op: Op, contains: (row: number, column: number) => boolean): Op {
  const from = (index: number): Op => ({
    ...op,
    recipes: undefined,
    evaluate: (context, rows, columns) => copyOf(context.input(index, rows, columns)),
  });
  return restricted(from(0), from(1), {}, contains);
}

/** Another recorded or evaluated value, taken as it is: `columnOf` chooses its column. */
export function taken(
  attributes: Record<string, unknown>,
  columnOf: (column: number) => number = (column) => column,
  rowOf: (row: number) => number = (row) => row,
): Op {
  return {
    kind: "identity",
    attributes,
    evaluate: (context, rows, columns) => copyOf(context.input(0, rows.map(rowOf), columns.map(columnOf))),
  };
}

/** Another place of input 0 for every element, where there is one: a consumer that addresses its operand wrongly. */
export function misread(
  attributes: Record<string, unknown>,
  source: (row: number, column: number) => readonly [number, number] | undefined,
): Op {
  return {
    kind: "identity",
    attributes,
    evaluate(context, rows, columns) {
      const needed = new Set<number>();
      forEachElement(rows, columns, (row, column) => {
        const from = source(row, column);
        if (from) needed.add(from[0]);
      });
      const sourceRows = Int32Array.from(needed).sort();
      const index = positions(sourceRows);
      const width = context.width(0);
      const block = context.input(0, sourceRows);
      const out = emptyBlock(rows.length * columns.length, context.noise);
      forEachElement(rows, columns, (row, column, i) => {
        const from = source(row, column);
        if (from) copyElement(block, index.get(from[0])! * width + from[1], out, i);
        else {
          // Beyond the buffer: anything.
          out.value[i] = Number.NaN;
          if (context.noise) out.variance[i] = Infinity;
        }
      });
      return out;
    },
  };
}

/** Where each of distinct indices stands. */
function positions(distinct: Int32Array): Map<number, number> {
  const at = new Map<number, number>();
  distinct.forEach((index, i) => {
    at.set(index, i);
  });
  return at;
}

export function forEachElement(
  rows: Int32Array,
  columns: Int32Array,
  visit: (row: number, column: number, i: number) => void,
): void {
  let i = 0;
  for (const row of rows) for (const column of columns) visit(row, column, i++);
}

function copyElement(from: Block, at: number, to: MutableBlock, i: number): void {
  to.value[i] = from.value[at]!;
  if (from.variance.length > 0) to.variance[i] = from.variance[at]!;
  if (from.jump) raiseJump(to, i, from.jump[at]!);
  if (from.range?.[at]) {
    to.range ??= new Uint8Array(to.value.length);
    to.range[i] = from.range[at]!;
  }
}

/** A node with another op, or other inputs. */
export function replaced(node: GraphNode, change: Partial<Pick<GraphNode, "op" | "inputs">>): GraphNode {
  return { ...node, ...change };
}
