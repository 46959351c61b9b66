import type { Investigation } from "../../diagnose/check/investigation.js";
import { wrongKeys } from "../../diagnose/records/seams.js";
import type { CacheView } from "./page-data.js";

/** Steps whose pages are drawn, keys of one sequence, and keys of a step. */
const mostSteps = 32;
const mostLength = 512;
const mostKeys = 2048;

/** The pages of a run, step by step: where keys were written, whence they are read, and which are not what was appended. */
export function cacheViews(investigation: Investigation): CacheView[] {
  const { capture } = investigation;
  const paged = capture.steps.flatMap(({ page_size, kv_indices }, i) => (page_size && kv_indices ? [i] : []));
  return paged.slice(0, mostSteps).map((stepIndex) => cacheView(investigation, stepIndex));
}

function cacheView(investigation: Investigation, stepIndex: number): CacheView {
  const { capture, observations } = investigation;
  const event = capture.steps[stepIndex]!;
  const placed = observations.rows.steps[stepIndex]!;
  const [indptr, indices] = [event.kv_indptr ?? [], event.kv_indices ?? []];
  let left = mostKeys;
  const sequences = placed.seqIds.flatMap((sequence, b) => {
    const length = Math.min(placed.lengths[b]!, mostLength, left);
    left -= length;
    if (length <= 0) return [];
    const positions = Array.from({ length }, (_, position) => position);
    return {
      sequence,
      length: placed.lengths[b]!,
      pages: indices.slice(indptr[b], indptr[b + 1]).slice(0, mostLength),
      read: positions.map((position) => observations.readSlot(stepIndex, b, position) ?? -1),
      written: positions.map((position) => writtenSlot(investigation, stepIndex, placed.histories[b]![position]!)),
    };
  });
  return { step: event.step, pageSize: event.page_size!, sequences, caches: cachesRead(investigation, stepIndex) };
}

/** The slot to which a step writes a row's key; -1 where it does not, or nobody says. */
function writtenSlot({ capture, observations }: Investigation, stepIndex: number, row: number): number {
  if (observations.rows.stepOf[row] !== stepIndex) return -1;
  return capture.steps[stepIndex]!.slot_mapping?.[row - observations.rows.steps[stepIndex]!.firstRow] ?? -1;
}

function cachesRead(investigation: Investigation, stepIndex: number): CacheView["caches"] {
  const { graph, observations } = investigation;
  return [...graph.nodes.values()].flatMap(({ name }) => {
    const placed = observations.pagedAt(name, stepIndex, "input");
    if (!placed) return [];
    const { wrong, checked } = wrongKeys(investigation, name, placed);
    return { name, keys: checked, wrong: wrong.slice(0, mostKeys).map(({ key }) => [key.b, key.position] as const) };
  });
}
