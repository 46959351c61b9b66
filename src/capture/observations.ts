import type { Observations, ObservedRow } from "../spec/evaluator.js";
import type { Graph, GraphNode } from "../spec/graph.js";
import type { Op } from "../spec/op.js";
import { sumsOfParts, withSums } from "../spec/ranks.js";
import type { RowTable } from "../spec/rows.js";
import { byteWidth, type DType } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import { isQuantised } from "../tensor/scaled-type.js";
import { room } from "../tensor/scratch.js";
import { type Assembly, alone, assemble } from "./assembly.js";
import { type CachedType, type CacheFormat, CacheFormats } from "./cache-formats.js";
import { type Capture, type DenseRecord, isPagedRecord, type PagedRecord, type ValueRecord } from "./capture.js";
import type { FittedScale } from "./fitted-scale.js";
import { slotOfKey } from "./key-slots.js";
import { lastOfEntry, piecesOfEntry, startOfEntry } from "./page-view.js";
import { partsOf } from "./parts.js";
import { type PlacedDense, placeDense, placeShards } from "./placed-dense.js";
import { type PlacedPaged, placePaged } from "./placed-paged.js";
import { PlacedRecords } from "./placed-records.js";
import { expectPlausible } from "./plausibility.js";
import { placeReplicas, type Replica } from "./replicas.js";
import { RowCache } from "./row-cache.js";
import { SettledRows } from "./settled-rows.js";
import { SlotOrder } from "./slot-order.js";
import { placeSteps } from "./step-rows.js";
import { TensorReader } from "./tensor-reader.js";

export type { PlacedDense } from "./placed-dense.js";
export type { PlacedPaged } from "./placed-paged.js";

/**
 * The recorded values of a capture, addressed by the spec's rows and columns. Names, dtypes, strides and page tables are
 * taken as recorded: a consumer that read the wrong bytes is given the wrong bytes.
 */
export class CaptureObservations implements Observations {
  readonly rows: RowTable;
  /** Values that the spec does not know or that do not fit it. */
  readonly unknown: { value: string; why: string }[] = [];
  readonly #records = new PlacedRecords();
  readonly #tensors = new TensorReader();
  readonly #rowCache = new RowCache();
  readonly #outputRows = new Map<string, Int32Array>();
  readonly settledRows = new SettledRows();
  /** The spec, its caches keeping what the recorded ones keep. */
  readonly graph: Graph;
  /** What further ranks recorded of the same values. */
  readonly replicas: Replica[] = [];
  readonly #formats: CacheFormats;

  /** @throws InputError when a recorded shape or token does not fit the model, or nothing but NaN was recorded. */
  constructor(
    readonly capture: Capture,
    graph: Graph,
    /** Whose record stands for those of all ranks that hold the same, and where the bias of a sum over ranks is added. */
    readonly viewpoint: Viewpoint = { rank: 0, biasFirst: new Set() },
  ) {
    this.#formats = new CacheFormats(this);
    const vocabulary = graph.at({ what: "logits" })?.columns;
    expectPlausible(capture, vocabulary);
    this.rows = placeSteps(capture);
    const assembled = capture.ranks ? assemble(capture.path, capture.records, viewpoint.rank) : alone(capture.records);
    this.unknown.push(...assembled.incomplete);
    const sums = new Map([...sumsOfParts(graph, assembled.cuts), ...assembled.sums]);
    this.graph = withSums(graph, sums, vocabulary ?? 0, viewpoint.biasFirst);
    const stepIndexOf = new Map(capture.steps.map((step, index) => [step.step, index]));
    const ordered = new SlotOrder(capture, this.graph);
    for (const assembly of assembled.values) this.#place(assembly, stepIndexOf, ordered);
    if (this.#records.names().length === 0) {
      throw new InputError(
        `${capture.path}: none of the ${capture.records.length} recorded values is a value of this model; expected names such as ${graph.all("query")[0]?.name}; faultline names maps others`,
      );
    }
    this.unknown.push(...this.#formats.unreadable());
    const narrowed = this.#formats.appends();
    if (narrowed.length > 0) this.graph = this.graph.with(narrowed);
  }

  #place(assembly: Assembly, stepIndexOf: ReadonlyMap<number, number>, ordered: SlotOrder): void {
    const [record] = assembly.records as readonly [ValueRecord];
    const stepIndex = stepIndexOf.get(record.step);
    const node = this.graph.find(record.name);
    if (stepIndex === undefined)
      this.unknown.push({ value: record.name, why: `no step event for step ${record.step}` });
    else if (!node) this.#placePacked(record, stepIndex);
    else if (!ordered.isKnown(node, record.step)) this.unknown.push({ value: record.name, why: ordered.missing });
    else if (isPagedRecord(record)) {
      const placed = placePaged(assembly.records as readonly PagedRecord[], stepIndex, node, this.capture);
      if (placed) this.#records.addPaged(placed);
      else this.unknown.push({ value: record.name, why: "the ranks keep their pages in different places" });
    } else {
      this.#records.addDense(this.#placeDense(assembly.records as readonly DenseRecord[], stepIndex, node));
      this.replicas.push(...placeReplicas(assembly, stepIndex, node, this.rows, this.capture));
    }
  }

  /** A record of several values of the spec in one: what a packed projection gives. */
  #placePacked(record: ValueRecord, stepIndex: number): void {
    const parts = isPagedRecord(record) || record.shard ? [] : partsOf(record, this.graph);
    for (const part of parts) this.#records.addDense(this.#placeDense([part.record], stepIndex, part.node));
    if (parts.length === 0) this.unknown.push({ value: record.name, why: "not a value of the spec" });
  }

  has(name: string): boolean {
    return this.#records.has(name);
  }

  names(): string[] {
    return this.#records.names();
  }

  denseRecords(name: string): readonly PlacedDense[] {
    return this.#records.dense(name);
  }

  pagedRecords(name: string): readonly PlacedPaged[] {
    return this.#records.paged(name);
  }

  row(name: string, row: number, consumer: string, readAt?: number): ObservedRow | undefined {
    if (this.pagedRecords(name).length > 0) return this.#cachedKey(name, row, readAt);
    const input = this.#records.input(name, this.rows.stepOf[row]!, consumer, this.graph);
    return input ? this.rowOf(input, row) : this.output(name, row);
  }

  /**
   * Rows of a value as `row` gives them to `consumer`, or without one as their producer wrote them: [rows, columns],
   * decoded straight into one array. undefined when one of them was not recorded.
   */
  block(name: string, rows: Int32Array, consumer?: string, readAt?: number): Float64Array | undefined {
    const out = room(rows.length * this.graph.node(name).columns);
    return this.blockInto(out, name, rows, consumer, readAt) ? out : undefined;
  }

  /** The same into an array of the caller's; false when a row was not recorded, and rows before it have been written. */
  blockInto(out: Float64Array, name: string, rows: Int32Array, consumer?: string, readAt?: number): boolean {
    const { columns } = this.graph.node(name);
    const paged = this.pagedRecords(name).length > 0;
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!;
      if (paged) {
        const observed = consumer === undefined ? this.output(name, row) : this.#cachedKey(name, row, readAt);
        if (!observed) return false;
        out.set(observed.value, i * columns);
      } else {
        const stepIndex = this.rows.stepOf[row]!;
        const input = consumer && this.#records.input(name, stepIndex, consumer, this.graph);
        if (!this.#denseInto(input || this.#records.output(name, stepIndex), row, out, i * columns)) return false;
      }
    }
    return true;
  }

  settled(name: string, row: number, op: Op): Float64Array | undefined {
    return this.settledRows.find(name, row, op);
  }

  /** A row as its producer wrote it. */
  output(name: string, row: number): ObservedRow | undefined {
    const stepIndex = this.rows.stepOf[row]!;
    const dense = this.#records.output(name, stepIndex);
    if (dense) return this.rowOf(dense, row);
    const paged = this.pagedAt(name, stepIndex, "output");
    return paged
      ? this.slotRow(paged, this.capture.steps[stepIndex]!.slot_mapping?.[row - this.rows.steps[stepIndex]!.firstRow])
      : undefined;
  }

  /** Rows whose output was recorded, in order. */
  outputRows(name: string): Int32Array {
    const known = this.#outputRows.get(name);
    if (known) return known;
    const rows: number[] = [];
    for (const placed of this.denseRecords(name))
      if (placed.record.role === "output") for (const row of placed.rows) rows.push(row);
    for (const { record, stepIndex } of this.pagedRecords(name)) {
      if (record.role !== "output") continue;
      for (const row of this.rows.rowsOf(stepIndex)) if (this.output(name, row)) rows.push(row);
    }
    const sorted = Int32Array.from(new Set(rows)).sort();
    this.#outputRows.set(name, sorted);
    return sorted;
  }

  /** The dtype a value was recorded in, as its producer claims it. */
  dtype(name: string): DType | undefined {
    const dense = this.denseRecords(name);
    const records = dense.length > 0 ? dense : this.pagedRecords(name);
    return (records.find(({ record }) => record.role === "output") ?? records[0])?.record.view.dtype;
  }

  /** One row of a dense record. */
  rowOf(placed: PlacedDense, row: number): ObservedRow | undefined {
    const recordRow = placed.recordRow(row);
    if (recordRow < 0) return undefined;
    const { view, name } = placed.record;
    const known = this.#rowCache.find(view, recordRow);
    if (known) return known;
    const value = this.#rowCache.room(this.graph.node(name).columns);
    this.#denseInto(placed, row, value, 0);
    return this.#rowCache.keep(view, recordRow, { value, dtype: view.dtype, exact: false });
  }

  /** One row of a record, or of a part of one: its own columns. */
  partRow(placed: PlacedDense, row: number, columns: number): Float64Array | undefined {
    const out = new Float64Array(columns);
    return this.#denseInto(placed, row, out, 0) ? out : undefined;
  }

  #denseInto(placed: PlacedDense | undefined, row: number, out: Float64Array, at: number): boolean {
    const recordRow = placed ? placed.recordRow(row) : -1;
    if (!placed || recordRow < 0) return false;
    const { axes, record, parts } = placed;
    if (parts) {
      const read = parts.filter((part) => this.#denseInto(part.placed, row, out, at + part.first));
      return record.shard!.axis === "t" ? read.length > 0 : read.length === parts.length;
    }
    this.#tensors.row(record.source, record.view.dtype, axes.startOf(recordRow), axes.pieces, out, at);
    return true;
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
    const known = this.#rowCache.find(record, slot!);
    if (known) return known;
    const value = this.#rowCache.room(stored.value.length);
    for (let i = 0; i < value.length; i++) value[i] = stored.value[i]! * type.scale;
    return this.#rowCache.keep(record, slot!, { value, dtype: stored.dtype, exact: true, error: type.error });
  }

  /** The numbers that a flat slot holds, as they are stored. */
  storedRow({ record, parts }: PlacedPaged, slot: number | undefined): ObservedRow | undefined {
    if (slot === undefined || slot < 0) return undefined;
    if (parts) return this.#joinedRow(parts, slot);
    const { view, pages } = record;
    const source = pages.get(Math.floor(slot / view.page_size));
    const entry = slot % view.page_size;
    // Views that were tried in place of the recorded one may reach further than what was recorded.
    if (!source || (lastOfEntry(view, entry) + 1) * byteWidth(view.dtype) > source.entry.byteLength) return undefined;
    const known = this.#rowCache.find(view, slot);
    if (known) return known;
    const value = this.#rowCache.room(view.heads * view.head_dim);
    this.#tensors.row(source, view.dtype, startOfEntry(view, entry), piecesOfEntry(view), value, 0);
    return this.#rowCache.keep(view, slot, { value, dtype: view.dtype, exact: true });
  }

  /** A row of a cache of which several ranks hold some heads each. */
  #joinedRow(parts: NonNullable<PlacedPaged["parts"]>, slot: number): ObservedRow | undefined {
    const rows = parts.map(({ placed }) => this.storedRow(placed, slot));
    if (rows.some((row) => row === undefined)) return undefined;
    return { ...rows[0]!, value: Float64Array.from(rows.flatMap((row) => [...row!.value])) };
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

  /** The slot from which step `stepIndex` reads the key at `position` of its sequence `b`, by the recorded page table. */
  readSlot(stepIndex: number, b: number, position: number): number | undefined {
    return slotOfKey(this.capture.steps[stepIndex]!, b, position);
  }

  pagedAt(name: string, stepIndex: number, role: "input" | "output"): PlacedPaged | undefined {
    return this.#records.pagedAt(name, stepIndex, role);
  }

  /** The key or value of a row as the step `readAt` reads it, else as it was written. */
  #cachedKey(name: string, row: number, readAt: number | undefined): ObservedRow | undefined {
    const input = readAt === undefined ? undefined : this.pagedAt(name, readAt, "input");
    if (!input) return this.output(name, row);
    const b = this.rows.steps[readAt!]!.seqIds.indexOf(this.rows.seqId[row]!);
    const slot = this.readSlot(readAt!, b, this.rows.position[row]!);
    return this.slotRow(input, slot) ?? this.output(name, row);
  }

  #placeDense(records: readonly DenseRecord[], stepIndex: number, node: GraphNode): PlacedDense {
    const [record] = records as readonly [DenseRecord];
    if (record.shard) return placeShards(records, stepIndex, node, this.rows, this.capture);
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
}

/** Whose record stands for those of all ranks that hold the same, and how sums over ranks are taken. */
export interface Viewpoint {
  readonly rank: number;
  /** Roles of products whose bias the first rank adds to its term; the others' is added to the sum. */
  readonly biasFirst: ReadonlySet<string>;
}
