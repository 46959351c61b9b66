import type { PagedView } from "../capture/format.js";
import type { PlacedPaged } from "../capture/observations.js";
import { type Key, meant, same } from "./cached-key.js";
import type { Investigation } from "./investigation.js";
import type { DirectCause } from "./metadata.js";

type CacheCause = Pick<DirectCause, "cause" | "kind" | "transform" | "statement" | "parameters">;
export type WrongKey = { key: Key; expected: Float64Array; read: Float64Array };

/** Why the keys a step reads are not those appended: another view, another address, other content. */
export function explainCache(
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
