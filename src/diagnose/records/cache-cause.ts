import type { CachedType } from "../../capture/cache-formats.js";
import type { PlacedPaged } from "../../capture/observations.js";
import { type CacheCause, holds, producedFor, rightWhenWritten, type WrongKey } from "../causes/cached-key.js";
import { classed } from "../causes/catalogue.js";
import { byScale } from "../causes/mistaken-scale.js";
import type { Investigation } from "../check/investigation.js";
import { byView } from "./cache-view.js";

/**
 * Why the keys a step reads are not those appended: another scale, another view, another address, other content.
 * @param type as the reader takes the slots' numbers.
 */
export function explainCache(
  investigation: Investigation,
  name: string,
  placed: PlacedPaged,
  wrong: readonly WrongKey[],
  type: CachedType,
): CacheCause {
  return (
    byScale(investigation, name, placed, wrong, type) ??
    byView(investigation, name, placed, wrong) ??
    byAddress(investigation, placed, wrong, type) ??
    byContent(investigation, name, wrong, type) ?? {
      ...classed("cache-differs"),
      statement: "the cache does not hold at the read what was stored, and holds nothing else that was recorded",
      parameters: {},
    }
  );
}

/** The right keys lie in the recorded pages, at other slots than those read. */
function byAddress(
  { observations }: Investigation,
  placed: PlacedPaged,
  wrong: readonly WrongKey[],
  type: CachedType,
): CacheCause | undefined {
  const { view, pages } = placed.record;
  const size = view.page_size;
  const found: number[] = [];
  for (const { key, produced } of wrong.slice(0, 64)) {
    let slot: number | undefined;
    for (const page of pages.keys()) {
      for (let entry = 0; entry < size && slot === undefined; entry++) {
        const stored = observations.storedRow(placed, page * size + entry)?.value;
        if (stored && holds(stored, produced, type)) slot = page * size + entry;
      }
    }
    if (slot === undefined) return undefined;
    found.push(slot - key.slot);
  }
  const offsets = [...new Set(found)];
  if (offsets.every((offset) => offset % size === 0)) {
    return {
      ...classed("page-table-wrong"),
      statement: "the right keys lie in other pages than the page table names",
      parameters: offsets.length === 1 ? { pages: offsets[0]! / size } : {},
    };
  }
  if (offsets.length === 1) {
    return {
      ...classed("slot-shifted"),
      statement: `the right keys lie ${Math.abs(offsets[0]!)} slot${Math.abs(offsets[0]!) > 1 ? "s" : ""} ${offsets[0]! > 0 ? "further on" : "before"}`,
      parameters: { offset: offsets[0]! },
    };
  }
  return {
    ...classed("slots-permuted"),
    statement: "the right keys lie at other slots of the recorded pages",
    parameters: {},
  };
}

/** Whether a slot holds what was produced for the token before its own. */
function isPredecessor(
  investigation: Investigation,
  name: string,
  { row, position }: WrongKey["key"],
  stored: Float64Array,
  type: CachedType,
): boolean {
  if (position === 0) return false;
  const before = producedFor(investigation, name, investigation.observations.rows.keyRow(row, position - 1));
  return before !== undefined && holds(stored, before, type);
}

/** What is read instead: another row's key, an older one, zeros; and whether it was right when written. */
function byContent(
  investigation: Investigation,
  name: string,
  wrong: readonly WrongKey[],
  type: CachedType,
): CacheCause | undefined {
  const { observations } = investigation;
  const first = wrong[0]!;
  const rightAtWrite = rightWhenWritten(investigation, name, first.key.row, first.produced) === true;
  if (wrong.every(({ stored }) => stored.every((x) => x === 0))) {
    return {
      ...classed("cache-unwritten"),
      statement: `the pages hold zeros${rightAtWrite ? " although the append wrote them" : ": nothing was appended"}`,
      parameters: {},
    };
  }
  if (wrong.every(({ key, stored }) => isPredecessor(investigation, name, key, stored, type))) {
    return {
      ...classed("cache-stale"),
      statement: `what is read for the newest token is its predecessor's${rightAtWrite ? ", although its own was written" : ""}`,
      parameters: {},
    };
  }
  for (let row = 0; row < observations.rows.count; row++) {
    if (row === first.key.row || observations.rows.stepOf[row]! < 0) continue;
    const other = producedFor(investigation, name, row);
    if (!other || !holds(first.stored, other, type)) continue;
    const from = `sequence ${observations.rows.seqId[row]}, position ${observations.rows.position[row]}`;
    return rightAtWrite
      ? {
          ...classed("cache-overwritten"),
          statement: `right when written, overwritten since by ${from}`,
          parameters: { sequence: observations.rows.seqId[row]!, position: observations.rows.position[row]! },
        }
      : {
          ...classed("slots-permuted"),
          statement: `the slot holds the key of ${from}`,
          parameters: {},
        };
  }
  if (rightAtWrite)
    return {
      ...classed("cache-overwritten"),
      statement: "right when written, changed since by something that was not recorded",
      parameters: {},
    };
  return undefined;
}
