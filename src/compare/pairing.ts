import type { Capture } from "../capture/capture.js";
import type { Graph } from "../spec/graph.js";
import type { RecordPair } from "./alignment.js";
import { type Elements, rowMajor } from "./elements.js";
import { type DenseValue, logicalValue, type PagedValue } from "./logical-value.js";

/** Two records brought to one order of elements, or found to have none in common. */
export interface PairedElements {
  readonly a: Elements;
  readonly b: Elements;
  /** Whether element i of `a` and element i of `b` are the same element of the value. */
  readonly comparable: boolean;
  readonly orders: readonly [string | undefined, string | undefined];
  coordinate(element: number): readonly number[];
  readonly notes: readonly string[];
}

/** Aligns the elements of two records of one value. */
export function pairElements(
  pair: RecordPair,
  reference: Capture,
  target: Capture,
  graph: Graph | undefined,
): PairedElements {
  const a = logicalValue(pair.reference, pair.name, reference, pair.steps?.reference, graph);
  const b = logicalValue(pair.target, pair.name, target, pair.steps?.target, graph);
  if (a.kind === "paged" && b.kind === "paged") return pairPages(a, b);
  if (a.kind === "dense" && b.kind === "dense") return pairDense(a, b);
  const all = (value: DenseValue | PagedValue) =>
    value.kind === "dense" ? value.elements : value.entries(value.keys.map((_, i) => i));
  return {
    a: all(a),
    b: all(b),
    comparable: false,
    orders: [a.order, b.order],
    coordinate: (element) => [element],
    notes: ["KV pages on one side, a dense tensor on the other"],
  };
}

function pairDense(a: DenseValue, b: DenseValue): PairedElements {
  const notes: string[] = [];
  if (a.order && b.order && squeezed(a) !== squeezed(b)) notes.push(`axis order ${a.order} / ${b.order}`);
  const orders = [a.order, b.order] as const;
  if (a.rows && b.rows && a.rows !== b.rows) {
    const left = a.rows === "token" ? a.lastRows()! : a.elements;
    const right = b.rows === "token" ? b.lastRows()! : b.elements;
    notes.push(`a row per ${a.rows} / a row per ${b.rows}: the last rows are compared`);
    const width = a.shape.at(-1)!;
    const comparable = left.length === right.length;
    return { a: left, b: right, comparable, orders, coordinate: (element) => coordinateOf(element, [0, width]), notes };
  }
  const comparable = a.rows && b.rows ? String(a.shape) === String(b.shape) : isRegrouping(a.shape, b.shape);
  if (!comparable) {
    const hint =
      a.order || b.order || a.elements.length !== b.elements.length
        ? ""
        : "; with --model DIR axes are mapped by the spec";
    notes.push(`shape [${a.shape}] / [${b.shape}]${hint}`);
  }
  return {
    a: a.elements,
    b: b.elements,
    comparable,
    orders,
    coordinate: (element) => coordinateOf(element, a.shape),
    notes,
  };
}

/** Axis letters without what the two sides may spell differently: a batch axis, heads apart or as one channel axis. */
function squeezed(value: DenseValue): string {
  return value.order!.replace(/b ?/, "").replace("h d", "c").trim();
}

/** Whether one shape only merges neighbouring axes of the other, so that both list their elements in one order. */
function isRegrouping(a: readonly number[], b: readonly number[]): boolean {
  const left = boundaries(a);
  const right = boundaries(b);
  const [few, many] = left.size < right.size ? [left, right] : [right, left];
  return [...few].every((n) => many.has(n)) && Math.max(...left) === Math.max(...right);
}

function boundaries(shape: readonly number[]): Set<number> {
  return new Set(rowMajor(shape).map((inner, k) => inner * shape[k]!));
}

function pairPages(a: PagedValue, b: PagedValue): PairedElements {
  const notes: string[] = [];
  const orders = [a.order, b.order] as const;
  if (a.order !== b.order) notes.push(`layout ${a.order} / ${b.order}`);
  const width = a.columns;
  const comparable = a.columns === b.columns && a.byToken === b.byToken;
  const [left, right] = comparable ? intersect(a.keys, b.keys) : [a.keys.map((_, i) => i), b.keys.map((_, i) => i)];
  if (!comparable)
    notes.push(a.columns === b.columns ? "a page table on one side only" : `${a.columns} / ${b.columns} columns`);
  else {
    if (!a.byToken) notes.push("no page table: pages compared by their number, unused slots included");
    const apart = a.keys.length + b.keys.length - left.length - right.length;
    if (apart > 0) notes.push(`${apart} entries are recorded on one side only and left out`);
  }
  return {
    a: a.entries(left),
    b: b.entries(right),
    comparable: comparable && left.length > 0,
    orders,
    coordinate: (element) => [...entryName(a, left[Math.floor(element / width)]!), element % width],
    notes,
  };
}

/** [sequence, position], or [page, slot] without a page table. */
function entryName(value: PagedValue, entry: number): [number, number] {
  const key = value.keys[entry]!;
  const unit = value.byToken ? 2 ** 26 : 2 ** 20;
  return [Math.floor(key / unit), key % unit];
}

/** Indices of the keys that two ascending lists share. */
function intersect(a: Float64Array, b: Float64Array): [number[], number[]] {
  const left: number[] = [];
  const right: number[] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length; ) {
    if (a[i] === b[j]) {
      left.push(i++);
      right.push(j++);
    } else if (a[i]! < b[j]!) i++;
    else j++;
  }
  return [left, right];
}

function coordinateOf(element: number, shape: readonly number[]): number[] {
  const inner = rowMajor(shape);
  return shape.map((n, k) => {
    const index = Math.floor(element / inner[k]!);
    return k === 0 ? index : index % n;
  });
}
