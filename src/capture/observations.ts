import type { Observations, ObservedRow } from "../spec/evaluator.js";
import type { Graph, GraphNode } from "../spec/graph.js";
import type { RowTable } from "../spec/rows.js";
import { byteWidth, type DType } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import { isQuantised } from "../tensor/scaled-type.js";
import { type CachedType, type CacheFormat, CacheFormats } from "./cache-formats.js";
import { type Capture, type DenseRecord, isPagedRecord, type PagedRecord } from "./capture.js";
import type { FittedScale } from "./fitted-scale.js";
import { elementOfEntry } from "./page-view.js";
import { type PlacedDense, placeDense } from "./placed-dense.js";
import { expectPlausible } from "./plausibility.js";
import { placeSteps } from "./step-rows.js";
import { TensorReader } from "./tensor-reader.js";

const rowCacheLimit = 48 * 2 ** 20;

export type { PlacedDense } from "./placed-dense.js";

/** A paged record with the page table of its step. */
export interface PlacedPaged {
  readonly record: PagedRecord;
  readonly stepIndex: number;
}

/**
 * The recorded values of a capture, addressed by the spec's rows and columns. Names, dtypes, strides and page tables are
 * taken as recorded: a consumer that read the wrong bytes is given the wrong bytes.
 */
export class CaptureObservations implements Observations {
  readonly rows: RowTable;
  /** Values that the spec does not know or that do not fit it. */
  readonly unknown: { value: string; why: string }[] = [];
  readonly #dense = new Map<string, PlacedDense[]>();
  readonly #paged = new Map<string, PlacedPaged[]>();
  readonly #tensors = new TensorReader();
  readonly #rowCache = new Map<object, Map<number, ObservedRow>>();
  readonly #outputRows = new Map<string, Int32Array>();
  #rowBytes = 0;
  /** The spec, its caches keeping what the recorded ones keep. */
  readonly graph: Graph;
  readonly #formats: CacheFormats;

  /** @throws InputError when a recorded shape or token does not fit the model, or nothing but NaN was recorded. */
  constructor(
    readonly capture: Capture,
    graph: Graph,
  ) {
    this.graph = graph;
    this.#formats = new CacheFormats(this);
    expectPlausible(capture, graph.nodes.get("lm_head")?.columns);
    this.rows = placeSteps(capture);
    const stepIndexOf = new Map(capture.steps.map((step, index) => [step.step, index]));
    for (const record of capture.records) {
      const stepIndex = stepIndexOf.get(record.step);
      const node = graph.nodes.get(record.name);
      if (stepIndex === undefined)
        this.unknown.push({ value: record.name, why: `no step event for step ${record.step}` });
      else if (!node) this.unknown.push({ value: record.name, why: "not a value of the spec" });
      else if (isPagedRecord(record)) this.#placePaged(record, stepIndex, node);
      else push(this.#dense, record.name, this.#placeDense(record, stepIndex, node));
    }
    if (this.#dense.size + this.#paged.size === 0) {
      throw new InputError(
        `${capture.path}: none of the ${capture.records.length} recorded values is a value of this model; expected names such as model.layers.0.self_attn.q_proj`,
      );
    }
    this.unknown.push(...this.#formats.unreadable());
    const narrowed = this.#formats.appends();
    if (narrowed.length > 0) this.graph = graph.with(narrowed);
  }

  has(name: string): boolean {
    return this.#dense.has(name) || this.#paged.has(name);
  }

  names(): string[] {
    return [...this.#dense.keys(), ...this.#paged.keys()];
  }

  denseRecords(name: string): readonly PlacedDense[] {
    return this.#dense.get(name) ?? [];
  }

  pagedRecords(name: string): readonly PlacedPaged[] {
    return this.#paged.get(name) ?? [];
  }

  row(name: string, row: number, consumer: string, readAt?: number): ObservedRow | undefined {
    if (this.#paged.has(name)) return this.#cachedKey(name, row, readAt);
    const input = this.#input(name, this.rows.stepOf[row]!, consumer);
    return input ? this.rowOf(input, row) : this.output(name, row);
  }

  /** A row as its producer wrote it. */
  output(name: string, row: number): ObservedRow | undefined {
    const stepIndex = this.rows.stepOf[row]!;
    for (const placed of this.#dense.get(name) ?? []) {
      if (placed.stepIndex === stepIndex && placed.record.role === "output") return this.rowOf(placed, row);
    }
    const paged = this.#findPaged(name, stepIndex, "output");
    return paged
      ? this.slotRow(paged, this.capture.steps[stepIndex]!.slot_mapping?.[row - this.rows.steps[stepIndex]!.firstRow])
      : undefined;
  }

  /** Rows whose output was recorded, in order. */
  outputRows(name: string): Int32Array {
    const known = this.#outputRows.get(name);
    if (known) return known;
    const rows: number[] = [];
    for (const placed of this.#dense.get(name) ?? [])
      if (placed.record.role === "output") for (const row of placed.rows) rows.push(row);
    for (const { record, stepIndex } of this.#paged.get(name) ?? []) {
      if (record.role !== "output") continue;
      for (const row of this.rows.rowsOf(stepIndex)) if (this.output(name, row)) rows.push(row);
    }
    const sorted = Int32Array.from(new Set(rows)).sort();
    this.#outputRows.set(name, sorted);
    return sorted;
  }

  /** The dtype a value was recorded in, as its producer claims it. */
  dtype(name: string): DType | undefined {
    const records = this.#dense.get(name) ?? this.#paged.get(name);
    return (
      records?.find(({ record }) => record.role === "output")?.record.view.dtype ?? records?.[0]?.record.view.dtype
    );
  }

  /** One row of a dense record. */
  rowOf(placed: PlacedDense, row: number): ObservedRow | undefined {
    const recordRow = placed.recordRow(row);
    if (recordRow < 0) return undefined;
    const { view, source, name } = placed.record;
    return this.#remembered(view, recordRow, () => {
      const { columns } = this.graph.node(name);
      const value = this.#tensors.gather(source, view.dtype, columns, (column) =>
        placed.axes.elementOf(recordRow, column),
      );
      return { value, dtype: view.dtype, exact: false };
    });
  }

  /**
   * The key or value that a flat slot (page × page_size + entry) holds, times the scale its reader applies; undefined when
   * its page was not recorded or nobody knows the scale.
   */
  slotRow(placed: PlacedPaged, slot: number | undefined): ObservedRow | undefined {
    const { record } = placed;
    const type = this.cachedType(placed);
    const stored = type && this.storedRow(placed, slot);
    if (!type || !stored) return undefined;
    if (type.scale === 1) return stored;
    return this.#remembered(record, slot!, () => {
      const exact = type.error === 0;
      const dtype = exact ? stored.dtype : "bfloat16";
      return { value: stored.value.map((x) => x * type.scale), dtype, exact };
    });
  }

  /** The numbers that a flat slot holds, as they are stored. */
  storedRow({ record }: PlacedPaged, slot: number | undefined): ObservedRow | undefined {
    if (slot === undefined || slot < 0) return undefined;
    const { view, pages } = record;
    const source = pages.get(Math.floor(slot / view.page_size));
    const entry = slot % view.page_size;
    const columns = view.heads * view.head_dim;
    // Views that were tried in place of the recorded one may reach further than what was recorded.
    const end = elementOfEntry(view, entry, columns - 1) + 1;
    if (!source || end * byteWidth(view.dtype) > source.entry.byteLength) return undefined;
    return this.#remembered(view, slot, () => {
      const value = this.#tensors.gather(source, view.dtype, columns, (column) => elementOfEntry(view, entry, column));
      return { value, dtype: view.dtype, exact: true };
    });
  }

  /** How the cache `name` keeps its values, also where it was not recorded but its siblings in other layers were. */
  cacheFormat(name: string): CacheFormat | undefined {
    return this.#formats.of(name);
  }

  /** The scale that the bytes of a recorded cache show beside what was appended to it, whatever its views say. */
  fittedScale(name: string): FittedScale | undefined {
    return this.#formats.fitted(name);
  }

  /** Type and scale by which a paged view is read; undefined when nobody knows the scale. */
  cachedType({ record }: PlacedPaged): CachedType | undefined {
    const { dtype, scale } = record.view;
    if (scale !== undefined) return { dtype, scale, error: 0 };
    const format = this.cacheFormat(record.name);
    if (format?.dtype !== dtype && !isQuantised(dtype)) return { dtype, scale: 1, error: 0 };
    return format?.scale === undefined ? undefined : { dtype, scale: format.scale, error: format.error };
  }

  /** Rows decoded lately stay decoded, by the view that addressed them; all are dropped when they grow too many. */
  #remembered(view: object, index: number, read: () => ObservedRow): ObservedRow {
    const known = this.#rowCache.get(view)?.get(index);
    if (known) return known;
    const observed = read();
    if (this.#rowBytes > rowCacheLimit) {
      this.#rowCache.clear();
      this.#rowBytes = 0;
    }
    let rows = this.#rowCache.get(view);
    if (!rows) {
      rows = new Map();
      this.#rowCache.set(view, rows);
    }
    rows.set(index, observed);
    this.#rowBytes += observed.value.byteLength;
    return observed;
  }

  /** The slot from which step `stepIndex` reads the key at `position` of its sequence `b`, by the recorded page table. */
  readSlot(stepIndex: number, b: number, position: number): number | undefined {
    const { kv_indptr: indptr, kv_indices: indices, page_size: pageSize } = this.capture.steps[stepIndex]!;
    if (!indptr || !indices || !pageSize) return undefined;
    const page = indices[(indptr[b] ?? 0) + Math.floor(position / pageSize)];
    return page === undefined ? undefined : page * pageSize + (position % pageSize);
  }

  pagedAt(name: string, stepIndex: number, role: "input" | "output"): PlacedPaged | undefined {
    return this.#findPaged(name, stepIndex, role);
  }

  /** The key or value of a row as the step `readAt` reads it, else as it was written. */
  #cachedKey(name: string, row: number, readAt: number | undefined): ObservedRow | undefined {
    const input = readAt === undefined ? undefined : this.#findPaged(name, readAt, "input");
    if (!input) return this.output(name, row);
    const b = this.rows.steps[readAt!]!.seqIds.indexOf(this.rows.seqId[row]!);
    const slot = this.readSlot(readAt!, b, this.rows.position[row]!);
    return this.slotRow(input, slot) ?? this.output(name, row);
  }

  #findPaged(name: string, stepIndex: number, role: "input" | "output"): PlacedPaged | undefined {
    return this.#paged.get(name)?.find((placed) => placed.stepIndex === stepIndex && placed.record.role === role);
  }

  /** The record of `name` as `consumer` addressed it: by its own name, or a record that names no other consumer. */
  #input(name: string, stepIndex: number, consumer: string): PlacedDense | undefined {
    const inputs = (this.#dense.get(name) ?? []).filter((p) => p.stepIndex === stepIndex && p.record.role === "input");
    if (inputs.length === 0) return undefined;
    const isFor = (by: string | undefined, reader: string) =>
      by !== undefined && (by === reader || reader.endsWith(`.${by}`) || by === this.graph.find(reader)?.op.kind);
    const own = inputs.find(({ record }) => isFor(record.by, consumer));
    if (own) return own;
    const others = this.graph.consumers(name).filter((reader) => reader !== consumer);
    return inputs.find(({ record }) => !others.some((reader) => isFor(record.by, reader)));
  }

  #placeDense(record: DenseRecord, stepIndex: number, node: GraphNode): PlacedDense {
    const { placed, unjudged } = placeDense(record, stepIndex, node, this.rows, this.capture);
    if (unjudged > 0) {
      const of = this.rows.steps[stepIndex]!.seqIds.length;
      this.unknown.push({
        value: record.name,
        why: `only the last column of the padded batch was recorded: padding in ${unjudged} of ${of} sequences, which are not judged`,
      });
    }
    return placed;
  }

  #placePaged(record: PagedRecord, stepIndex: number, node: GraphNode): void {
    const { heads, head_dim: headDim } = record.view;
    if (heads * headDim !== node.columns || heads !== node.heads) {
      throw new InputError(
        `${this.capture.path}: "${record.name}" of step ${record.step}: view has ${heads} heads of ${headDim}, the model ${node.heads} heads of ${node.columns / (node.heads ?? 1)}: recorded with another model?`,
      );
    }
    push(this.#paged, record.name, { record, stepIndex });
  }
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}
