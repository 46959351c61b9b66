import type { CachedType } from "../../capture/cache-formats.js";
import type { PlacedPaged } from "../../capture/observations.js";
import { type CacheCause, holds, producedFor, rightWhenWritten, type WrongKey } from "../causes/cached-key.js";
import { classed } from "../causes/catalogue.js";
import { byScale } from "../causes/mistaken-scale.js";
import type { Investigation } from "../check/investigation.js";
import { byView } from "./cache-view.js";

/**
 * Why the keys a step reads are not those appended: another scale, another view, another address, other content.
 * @param own slots that hold what belongs there: equal tokens have equal values, so that they may hold a wrong key's too.
 * @param type as the reader takes the slots' numbers.
 */
export function explainCache(
  investigation: Investigation,
  name: string,
  placed: PlacedPaged,
  wrong: readonly WrongKey[],
  own: ReadonlySet<number>,
  type: CachedType,
): CacheCause {
  return (
    byScale(investigation, name, placed, wrong, type) ??
    byView(investigation, name, placed, wrong) ??
    byAddress(investigation, placed, wrong, own, type) ??
    byLayer(investigation, name, wrong, type) ??
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
  own: ReadonlySet<number>,
  type: CachedType,
): CacheCause | undefined {
  const { view, pages } = placed.record;
  const size = view.page_size;
  const slots = [...pages.keys()]
    .flatMap((page) => Array.from({ length: size }, (_, entry) => page * size + entry))
    .filter((slot) => !own.has(slot));
  const found: number[][] = [];
  for (const { key, produced } of wrong.slice(0, 64)) {
    const right = slots.filter((slot) => {
      const stored = observations.storedRow(placed, slot)?.value;
      return stored !== undefined && holds(stored, produced, type);
    });
    if (right.length === 0) return undefined;
    found.push(right.map((slot) => slot - key.slot));
  }
  const common = found[0]!.find((offset) => found.every((offsets) => offsets.includes(offset)));
  if (found.every((offsets) => offsets.some((offset) => offset % size === 0))) {
    return {
      ...classed("page-table-wrong"),
      statement: "the right keys lie in other pages than the page table names",
      parameters: common !== undefined && common % size === 0 ? { pages: common / size } : {},
    };
  }
  if (common !== undefined) {
    return {
      ...classed("slot-shifted"),
      statement: `the right keys lie ${Math.abs(common)} slot${Math.abs(common) > 1 ? "s" : ""} ${common > 0 ? "further on" : "before"}`,
      parameters: { offset: common },
    };
  }
  return {
    ...classed("slots-permuted"),
    statement: "the right keys lie at other slots of the recorded pages",
    parameters: {},
  };
}

/** The slots hold what another layer appended for the same tokens. */
function byLayer(
  investigation: Investigation,
  name: string,
  wrong: readonly WrongKey[],
  type: CachedType,
): CacheCause | undefined {
  const { graph, config } = investigation;
  const node = graph.node(name);
  for (let other = 0; other < config.layerCount; other++) {
    const sibling = graph.inLayer(node, other);
    if (other === node.layer || !sibling) continue;
    const isTheirs = ({ key, stored }: WrongKey) => {
      const theirs = producedFor(investigation, sibling.name, key.row);
      return theirs !== undefined && holds(stored, theirs, type);
    };
    if (!wrong.every(isTheirs)) continue;
    return {
      ...classed("cache-of-other-layer"),
      statement: `what is read was appended by layer ${other}`,
      parameters: { layer: other, offset: other - (node.layer ?? 0) },
    };
  }
  return undefined;
}

/** Whether a slot holds what was produced for the token before its own, or what stands in that one's slot in its turn. */
function isPredecessor(
  investigation: Investigation,
  name: string,
  wrong: readonly WrongKey[],
  { key: { row, position }, stored }: WrongKey,
  type: CachedType,
): boolean {
  if (position === 0) return false;
  const beforeRow = investigation.observations.rows.keyRow(row, position - 1);
  const before = producedFor(investigation, name, beforeRow);
  if (before !== undefined && holds(stored, before, type)) return true;
  const alsoWrong = wrong.find(({ key }) => key.row === beforeRow);
  return alsoWrong !== undefined && stored.every((x, i) => x === alsoWrong.stored[i]);
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
  if (wrong.every((key) => isPredecessor(investigation, name, wrong, key, type))) {
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
