import type { PagedView } from "../capture/format.js";
import type { PlacedPaged } from "../capture/observations.js";
import { roundTo } from "../tensor/dtype.js";
import { ranges } from "./extent.js";
import type { Investigation } from "./investigation.js";
import type { DirectCause } from "./metadata.js";

/** How the records of producers and consumers agree. */
export interface SeamReport {
  readonly causes: DirectCause[];
  readonly compared: { pages: number; keys: number; dense: number };
}

/** Compares both views of every recorded seam: KV caches as written and as read, and dense values with two records. */
export function checkSeams(investigation: Investigation): SeamReport {
  const causes: DirectCause[] = [];
  const compared = { pages: 0, keys: 0, dense: 0 };
  for (const node of investigation.graph.nodes.values()) {
    for (const placed of investigation.observations.pagedRecords(node.name)) {
      if (placed.record.role !== "input") continue;
      compared.pages += placed.record.pages.size;
      const found = checkCache(investigation, node.name, placed, compared);
      if (found) causes.push(found);
    }
    const found = checkDense(investigation, node.name, compared);
    causes.push(...found);
  }
  return { causes, compared };
}

interface Key {
  readonly b: number;
  readonly position: number;
  readonly row: number;
  readonly slot: number;
}

const keysPerSequence = 256;

/** The keys a step reads, by its own page table: all of short sequences, edges and an even spread of long ones. */
function keysRead({ observations }: Investigation, stepIndex: number): Key[] {
  const step = observations.rows.steps[stepIndex]!;
  const keys: Key[] = [];
  for (let b = 0; b < step.lengths.length; b++) {
    const length = step.lengths[b]!;
    const stride = Math.max(1, Math.ceil(length / keysPerSequence));
    for (let position = 0; position < length; position++) {
      if (position % stride !== 0 && position < length - 32) continue;
      const slot = observations.readSlot(stepIndex, b, position);
      if (slot !== undefined) keys.push({ b, position, row: step.histories[b]![position]!, slot });
    }
  }
  return keys;
}

/** What the append meant to store for a row, in the cache's type; undefined when nobody recorded it. */
function meant(
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

function same(a: Float64Array, b: Float64Array): boolean {
  return a.every((x, i) => x === b[i] || (Number.isNaN(x) && Number.isNaN(b[i]!)));
}

function checkCache(
  investigation: Investigation,
  name: string,
  placed: PlacedPaged,
  compared: { keys: number },
): DirectCause | undefined {
  const { observations } = investigation;
  const { view } = placed.record;
  const wrong: { key: Key; expected: Float64Array; read: Float64Array }[] = [];
  let checked = 0;
  for (const key of keysRead(investigation, placed.stepIndex)) {
    const expected = meant(investigation, name, key.row, view);
    const read = observations.slotRow(placed, key.slot)?.value;
    if (!expected || !read) continue;
    checked++;
    if (!same(read, expected)) wrong.push({ key, expected, read });
  }
  compared.keys += checked;
  if (wrong.length === 0) return undefined;
  const { cause, kind, transform, statement, parameters } = explainCache(investigation, name, placed, wrong);
  const layer = investigation.graph.node(name).layer;
  const where = `${wrong.length} of ${checked} ${name.endsWith("k_cache") ? "keys" : "values"} that step ${placed.record.step} reads are not what was appended (first: sequence ${investigation.capture.steps[placed.stepIndex]!.seq_ids[wrong[0]!.key.b]}, position ${wrong[0]!.key.position})`;
  return {
    cause,
    kind,
    transform,
    unit: name,
    step: placed.record.step,
    layer,
    parameters,
    statement: `${statement}: ${where}`,
    group: `${cause} ${JSON.stringify(parameters)}`,
    samples: checked,
    rows: ranges(wrong.map(({ key }) => key.row)),
  };
}

type CacheCause = Pick<DirectCause, "cause" | "kind" | "transform" | "statement" | "parameters">;
type WrongKey = { key: Key; expected: Float64Array; read: Float64Array };

function explainCache(
  investigation: Investigation,
  name: string,
  placed: PlacedPaged,
  wrong: readonly WrongKey[],
): CacheCause {
  return (
    byView(investigation, name, placed, wrong) ??
    byAddress(investigation, placed, wrong) ??
    byContent(investigation, name, placed, wrong) ?? {
      cause: "cache-differs",
      kind: "state",
      transform: "T12",
      statement: "the cache does not hold at the read what was stored, and holds nothing else that was recorded",
      parameters: {},
    }
  );
}

/** The bytes are right under other strides or another type: the writer's, or those of the other layout. */
function byView(
  { observations }: Investigation,
  name: string,
  placed: PlacedPaged,
  wrong: readonly WrongKey[],
): CacheCause | undefined {
  const { view } = placed.record;
  const { page_size: size, heads, head_dim: width } = view;
  const writer = observations.pagedAt(name, placed.stepIndex, "output")?.record.view;
  const page = view.strides[0]!;
  const candidates: {
    view: PagedView;
    title: string;
    cause: string;
    transform: string;
    parameters: Record<string, string>;
  }[] = [];
  const add = (
    changed: Partial<PagedView>,
    title: string,
    cause: string,
    transform: string,
    parameters: Record<string, string>,
  ) => candidates.push({ view: { ...view, ...changed }, title, cause, transform, parameters });
  if (writer && writer.dtype !== view.dtype) {
    add({ dtype: writer.dtype }, `written as ${writer.dtype}, read as ${view.dtype}`, "dtype-bits", "T8", {
      written: writer.dtype,
      read: view.dtype,
    });
  }
  if (writer && writer.strides.join() !== view.strides.join() && writer.layout === view.layout) {
    add(
      { strides: writer.strides },
      `written with strides [${writer.strides}], read with [${view.strides}]`,
      "stride-mismatch",
      "T2",
      { written: writer.strides.join(" "), read: view.strides.join(" ") },
    );
  }
  const layouts = { NHD: [page, heads * width, width, 1], HND: [page, width, size * width, 1] };
  for (const [layout, strides] of Object.entries(layouts)) {
    if (strides.join() === view.strides.join()) continue;
    add({ strides }, `written as ${layout}, read as ${layout === "NHD" ? "HND" : "NHD"}`, "layout-mismatch", "T1", {
      written: layout,
      read: layout === "NHD" ? "HND" : "NHD",
    });
  }
  for (const candidate of candidates) {
    const reread = { ...placed, record: { ...placed.record, view: candidate.view } };
    const right = wrong.every(({ key, expected }) => {
      const value = observations.slotRow(reread, key.slot)?.value;
      return value !== undefined && same(value, expected);
    });
    if (right)
      return {
        cause: candidate.cause,
        kind: "seam",
        transform: candidate.transform,
        statement: `the KV pages are ${candidate.title}`,
        parameters: candidate.parameters,
      };
  }
  return undefined;
}

/** The right keys lie in the recorded pages, at other slots than those read. */
function byAddress(
  { observations }: Investigation,
  placed: PlacedPaged,
  wrong: readonly WrongKey[],
): CacheCause | undefined {
  const { view, pages } = placed.record;
  const size = view.page_size;
  const found: number[] = [];
  for (const { key, expected } of wrong.slice(0, 64)) {
    let slot: number | undefined;
    for (const page of pages.keys()) {
      for (let entry = 0; entry < size && slot === undefined; entry++) {
        const value = observations.slotRow(placed, page * size + entry)?.value;
        if (value && same(value, expected)) slot = page * size + entry;
      }
    }
    if (slot === undefined) return undefined;
    found.push(slot - key.slot);
  }
  const offsets = [...new Set(found)];
  if (offsets.every((offset) => offset % size === 0)) {
    return {
      cause: "page-table-wrong",
      kind: "metadata",
      transform: "T3",
      statement: "the right keys lie in other pages than the page table names",
      parameters: offsets.length === 1 ? { pages: offsets[0]! / size } : {},
    };
  }
  if (offsets.length === 1) {
    return {
      cause: "slot-shifted",
      kind: "metadata",
      transform: "T3",
      statement: `the right keys lie ${Math.abs(offsets[0]!)} slot${Math.abs(offsets[0]!) > 1 ? "s" : ""} ${offsets[0]! > 0 ? "further on" : "before"}`,
      parameters: { offset: offsets[0]! },
    };
  }
  return {
    cause: "slots-permuted",
    kind: "metadata",
    transform: "T3",
    statement: "the right keys lie at other slots of the recorded pages",
    parameters: {},
  };
}

/** What is read instead: another row's key, an older one, zeros; and whether it was right when written. */
function byContent(
  investigation: Investigation,
  name: string,
  placed: PlacedPaged,
  wrong: readonly WrongKey[],
): CacheCause | undefined {
  const { observations } = investigation;
  const first = wrong[0]!;
  const written = observations.output(name, first.key.row)?.value;
  const rightAtWrite = written !== undefined && same(written, first.expected);
  if (wrong.every(({ read }) => read.every((x) => x === 0))) {
    return {
      cause: "cache-unwritten",
      kind: "state",
      transform: "T14",
      statement: `the pages hold zeros${rightAtWrite ? " although the append wrote them" : ": nothing was appended"}`,
      parameters: {},
    };
  }
  for (let row = 0; row < observations.rows.count; row++) {
    if (row === first.key.row || observations.rows.stepOf[row]! < 0) continue;
    const other = meant(investigation, name, row, placed.record.view);
    if (!other || !same(other, first.read)) continue;
    const from = `sequence ${observations.rows.seqId[row]}, position ${observations.rows.position[row]}`;
    return rightAtWrite
      ? {
          cause: "cache-overwritten",
          kind: "state",
          transform: "T12",
          statement: `right when written, overwritten since by ${from}`,
          parameters: { sequence: observations.rows.seqId[row]!, position: observations.rows.position[row]! },
        }
      : {
          cause: "slots-permuted",
          kind: "metadata",
          transform: "T3",
          statement: `the slot holds the key of ${from}`,
          parameters: {},
        };
  }
  if (rightAtWrite)
    return {
      cause: "cache-overwritten",
      kind: "state",
      transform: "T12",
      statement: "right when written, changed since by something that was not recorded",
      parameters: {},
    };
  return undefined;
}

/** A dense value recorded at its producer and at a consumer: the same elements must be the same. */
function checkDense(investigation: Investigation, name: string, compared: { dense: number }): DirectCause[] {
  const { observations } = investigation;
  const records = observations.denseRecords(name);
  const out: DirectCause[] = [];
  for (const input of records) {
    if (input.record.role !== "input") continue;
    const output = records.find((other) => other.record.role === "output" && other.stepIndex === input.stepIndex);
    if (!output) continue;
    compared.dense++;
    const wrong = [...input.rows].filter((row) => {
      const produced = observations.rowOf(output, row)?.value;
      const consumed = observations.rowOf(input, row)?.value;
      if (!produced || !consumed) return false;
      const dtype = input.record.view.dtype;
      return !same(
        consumed,
        produced.map((x) => roundTo(x, dtype)),
      );
    });
    if (wrong.length === 0) continue;
    const a = output.record.view;
    const b = input.record.view;
    const reader = input.record.by ?? "its consumer";
    const strides = a.shape.join() === b.shape.join() && a.strides.join() !== b.strides.join();
    const bits = a.dtype !== b.dtype;
    const cause = bits
      ? "dtype-bits"
      : strides
        ? "stride-mismatch"
        : a.storage === b.storage && a.epoch !== b.epoch
          ? "overwritten-before-read"
          : "operand-differs";
    out.push({
      cause,
      kind: cause === "overwritten-before-read" ? "state" : "seam",
      transform: bits ? "T8" : strides ? "T2" : "T12",
      unit: name,
      step: input.record.step,
      layer: investigation.graph.node(name).layer,
      parameters: bits
        ? { written: a.dtype, read: b.dtype }
        : strides
          ? { written: a.strides.join(" "), read: b.strides.join(" ") }
          : { by: reader },
      statement: bits
        ? `written as ${a.dtype}, read as ${b.dtype} by ${reader}`
        : strides
          ? `written with strides [${a.strides}], read with [${b.strides}] by ${reader}`
          : cause === "overwritten-before-read"
            ? `${reader} reads epoch ${b.epoch} of ${b.storage}; what was produced is epoch ${a.epoch}: overwritten in between`
            : `${reader} reads other numbers than were produced`,
      group: `${cause} ${reader}`,
      samples: input.rows.length,
      rows: ranges(wrong),
    });
  }
  return out;
}
