import { dimsFor, mapAxes } from "../capture/axes.js";
import {
  type Capture,
  type DenseRecord,
  isPagedRecord,
  type PagedRecord,
  type ValueRecord,
} from "../capture/capture.js";
import type { StepEvent } from "../capture/format.js";
import type { Padding } from "../capture/padding.js";
import { elementOfEntry } from "../capture/page-view.js";
import type { Graph, GraphNode } from "../spec/graph.js";
import { byteWidth } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import { type Elements, JoinedElements, StridedElements } from "./elements.js";

/** A dense record with its axes in logical order. */
export interface DenseValue {
  readonly kind: "dense";
  readonly elements: Elements;
  /** Logical shape: [rows, columns] once the axes are known, else the recorded shape. */
  readonly shape: readonly number[];
  /** Axis order as recorded, in the letters of the capture format; undefined when it is not known. */
  readonly order: string | undefined;
  /** What a row is, when the axes are known. */
  readonly rows: "token" | "sequence" | undefined;
  /** The last row of each sequence of a value with a row per token. */
  lastRows(): Elements | undefined;
}

/** KV pages by token: entry i is key `positions[i]` of its sequence, wherever its page lies. */
export interface PagedValue {
  readonly kind: "paged";
  /** sequence × 2^26 + position; without a page table, page × 2^20 + slot. Ascending. */
  readonly keys: Float64Array;
  readonly byToken: boolean;
  readonly columns: number;
  readonly order: string;
  /** Elements of the chosen entries, each heads × head_dim. */
  entries(chosen: ArrayLike<number>): Elements;
}

export type LogicalValue = DenseValue | PagedValue;

/** The axes of the logical order, slowest first. */
const logicalAxes = "bthdc";

/**
 * Reads a record by rows and columns of the spec where `graph` knows it, else by the shape it has.
 * @throws InputError when the view is so large beside what was recorded that reading it would not end.
 */
export function logicalValue(
  record: ValueRecord,
  name: string,
  capture: Capture,
  step: StepEvent | undefined,
  graph?: Graph,
): LogicalValue {
  expectReadable(record, capture);
  if (isPagedRecord(record)) return pagedValue(record, step, capture);
  const node = graph?.nodes.get(name);
  const dims = dimsFor(capture.manifest.dims, record.name) ?? dimsFor(capture.manifest.dims, name);
  return (node && step && mapped(record, node, step, dims, capture.paddings?.get(step.step))) ?? unmapped(record, dims);
}

function mapped(
  record: DenseRecord,
  node: GraphNode,
  step: StepEvent,
  dims: string | undefined,
  padding: Padding | undefined,
): DenseValue | undefined {
  const rows = step.token_ids.length;
  const sequences = step.seq_ids.length;
  const tokens = padding?.tokens ?? rows / sequences;
  const equal = padding !== undefined || step.qo_indptr.every((n, b) => n === b * tokens);
  const placeOf = (row: number) => padding?.places[row] ?? row;
  const ends = step.qo_indptr.slice(1);
  const { view } = record;
  for (const kind of ["token", "sequence"] as const) {
    // The last column of a batch padded on the right is not the last token of every sequence.
    if (kind === "sequence" && padding && !ends.every((end) => (placeOf(end - 1) + 1) % tokens === 0)) continue;
    const count = kind === "token" ? rows : sequences;
    const batch = kind === "sequence" ? { sequences, tokens: 1 } : equal ? { sequences, tokens } : undefined;
    const places = kind === "token" && padding ? sequences * tokens : count;
    const sizes = { rows: places, batch, columns: node.columns, heads: node.heads };
    const map = mapAxes(view.shape, view.strides, sizes, dims) ?? mapAxes(view.shape, view.strides, sizes);
    if (!map) continue;
    const { shape, strides } = inLogicalOrder(view.shape, view.strides, map.order.split(" "));
    const axes = map.order.split(" ").filter((letter) => letter !== "b" && letter !== "t").length;
    /** Rows `first` up to `end` of one sequence, which lie one stride apart. */
    const run = (first: number, end: number) => {
      const base = map.elementOf(placeOf(first), 0);
      const apart = end - first > 1 ? map.elementOf(placeOf(first + 1), 0) - base : 0;
      const sizesOfRun = [end - first, ...shape.slice(-axes)];
      return new StridedElements(record.source, view.dtype, sizesOfRun, [apart, ...strides.slice(-axes)], base);
    };
    const filled = step.seq_ids.flatMap((_, b) => (ends[b]! > step.qo_indptr[b]! ? [b] : []));
    const real = () =>
      new JoinedElements(
        view.dtype,
        filled.map((b) => run(step.qo_indptr[b]!, ends[b]!)),
      );
    return {
      kind: "dense",
      elements: padding && kind === "token" ? real() : new StridedElements(record.source, view.dtype, shape, strides),
      shape: [count, node.columns],
      order: map.order,
      rows: kind,
      lastRows() {
        if (kind === "sequence") return undefined;
        return new JoinedElements(
          view.dtype,
          filled.map((b) => run(ends[b]! - 1, ends[b]!)),
        );
      },
    };
  }
  return undefined;
}

/** Without a model the axes are put in logical order where `dims` names them; the shape stays as it is. */
function unmapped(record: DenseRecord, dims: string | undefined): DenseValue {
  const { view, source } = record;
  const letters = dims?.trim().split(/\s+/) ?? [];
  const known = letters.length === view.shape.length && letters.every((letter) => logicalAxes.includes(letter));
  const { shape, strides } = known ? inLogicalOrder(view.shape, view.strides, letters) : view;
  return {
    kind: "dense",
    elements: new StridedElements(source, view.dtype, shape, strides),
    shape,
    order: known ? letters.join(" ") : undefined,
    rows: undefined,
    lastRows: () => undefined,
  };
}

function inLogicalOrder(shape: readonly number[], strides: readonly number[], letters: readonly string[]) {
  const axes = letters.map((letter, k) => ({ letter, k }));
  axes.sort((a, b) => logicalAxes.indexOf(a.letter) - logicalAxes.indexOf(b.letter));
  return { shape: axes.map(({ k }) => shape[k]!), strides: axes.map(({ k }) => strides[k]!) };
}

const sequenceUnit = 2 ** 26;
const pageUnit = 2 ** 20;
const maxEntries = 2 ** 22;
const maxRepeats = 1024;

function pagedValue(record: PagedRecord, step: StepEvent | undefined, capture: Capture): PagedValue {
  const { view } = record;
  const keys: number[] = [];
  const pages: number[] = [];
  const slots: number[] = [];
  const add = (firstKey: number, page: number, count: number) => {
    if (keys.length + count > maxEntries) {
      throw new InputError(
        `${capture.path}: "${record.name}" of step ${record.step}: expected at most ${maxEntries} keys in its pages`,
      );
    }
    for (let slot = 0; slot < count; slot++) {
      keys.push(firstKey + slot);
      pages.push(page);
      slots.push(slot);
    }
  };
  const table = step && pageTable(step, view.page_size);
  if (table) {
    for (const { sequence, index, page, count } of table) {
      if (record.pages.has(page)) add(sequence * sequenceUnit + index * view.page_size, page, count);
    }
  } else {
    for (const page of [...record.pages.keys()].sort((a, b) => a - b)) add(page * pageUnit, page, view.page_size);
  }
  return {
    kind: "paged",
    keys: Float64Array.from(keys),
    byToken: table !== undefined,
    columns: view.heads * view.head_dim,
    order: view.layout,
    entries: (chosen) => new JoinedElements(view.dtype, slotRuns(record, chosen, pages, slots)),
  };
}

/** Pages of each sequence as the step's page table gives them: the index-th of the sequence holds `count` keys. */
function pageTable(step: StepEvent, pageSize: number) {
  const { kv_indptr: indptr, kv_indices: indices, kv_last_page_len: last, page_size: stated } = step;
  if (!indptr || !indices || !last || (stated !== undefined && stated !== pageSize)) return undefined;
  if (indptr.length !== step.seq_ids.length + 1 || last.length !== step.seq_ids.length) return undefined;
  if (indptr.some((n, b) => n > indices.length || (b > 0 && n < indptr[b - 1]!))) return undefined;
  return step.seq_ids.flatMap((_, sequence) => {
    const own = indices.slice(indptr[sequence]!, indptr[sequence + 1]!);
    const inLast = Math.min(Math.max(last[sequence]!, 0), pageSize);
    return own.map((page, index) => ({ sequence, index, page, count: index === own.length - 1 ? inLast : pageSize }));
  });
}

/** The shape a record's view has; [pages, page_size, heads, head_dim] of KV pages. */
export function recordedShape(record: ValueRecord): readonly number[] {
  if (!isPagedRecord(record)) return record.view.shape;
  return [record.pages.size, record.view.page_size, record.view.heads, record.view.head_dim];
}

/** A view may repeat what was recorded (an expanded axis has stride 0), but not so often that reading it never ends. */
function expectReadable(record: ValueRecord, capture: Capture): void {
  const { view } = record;
  const shape = recordedShape(record);
  const sources = isPagedRecord(record) ? [...record.pages.values()] : [record.source];
  const recorded = sources.reduce((sum, { entry }) => sum + entry.byteLength, 0) / byteWidth(view.dtype);
  if (shape.reduce((product, n) => product * n, 1) > maxRepeats * recorded) {
    throw new InputError(
      `${capture.path}: "${record.name}" of step ${record.step}: shape [${shape}] reads each of ${recorded} recorded elements more than ${maxRepeats} times`,
    );
  }
}

/** Neighbouring slots of one page are read together. */
function slotRuns(record: PagedRecord, chosen: ArrayLike<number>, pages: readonly number[], slots: readonly number[]) {
  const { view } = record;
  const [, slotStride, headStride, channelStride] = view.strides as [number, number, number, number];
  const parts: StridedElements[] = [];
  for (let i = 0; i < chosen.length; ) {
    const start = i;
    const page = pages[chosen[start]!]!;
    const slot = slots[chosen[start]!]!;
    do i++;
    while (i < chosen.length && pages[chosen[i]!] === page && slots[chosen[i]!] === slot + i - start);
    const shape = [i - start, view.heads, view.head_dim];
    const strides = [slotStride, headStride, channelStride];
    const base = elementOfEntry(view, slot, 0);
    parts.push(new StridedElements(record.pages.get(page)!, view.dtype, shape, strides, base));
  }
  return parts;
}
