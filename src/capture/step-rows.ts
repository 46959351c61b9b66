import { RowTable } from "../spec/rows.js";
import type { Capture } from "./capture.js";
import type { StepEvent } from "./format.js";
import { columnsOf } from "./padding.js";

/** Most tokens that all sequences of a capture together may claim to have had before it began. */
const maxUnrecorded = 2 ** 17;

/** The row table of a capture: positions from token counts, restarts and unrecorded prefixes from consistent metadata. */
export function placeSteps(capture: Capture): RowTable {
  const table = new RowTable();
  const columns = capture.padding && columnsOf(capture.padding);
  let available = maxUnrecorded;
  for (const event of capture.steps) {
    const unrecorded = event.seq_ids.map((seqId, b) => {
      const known = table.lengthOf(seqId);
      const claimed = claimedPrefix(event, b);
      if (known > 0 && claimed === 0 && repeatsHistory(table, event, b)) table.restart(seqId);
      if (known > 0 || claimed === undefined || claimed > available) return 0;
      available -= claimed;
      return claimed;
    });
    table.append({
      step: event.step,
      seqIds: event.seq_ids,
      tokenIds: event.token_ids,
      qoIndptr: event.qo_indptr,
      unrecorded,
      columns,
    });
    if (columns && event.positions) settleRotary(table, event.positions, columns);
  }
  return table;
}

/** Recorded positions of a padded batch say what RoPE counted, also where they are off by one and the same number. */
function settleRotary(table: RowTable, positions: readonly number[], columns: Int32Array): void {
  const misfit = (counted: ArrayLike<number>) => {
    const offsets = new Set(Array.from(counted, (count, row) => (positions[row] ?? Number.NaN) - count));
    return offsets.size === 1 && offsets.has(0) ? 0 : offsets.size;
  };
  table.rotary = misfit(columns) < misfit(table.position) ? "columns" : "counts";
  table.rotaryChoices = [table.rotary];
}

/** Tokens before the step's own, where positions and KV lengths agree on them. */
function claimedPrefix(event: StepEvent, b: number): number | undefined {
  const { positions, kv_indptr: indptr, kv_last_page_len: last, page_size: pageSize, qo_indptr: qo } = event;
  const start = positions?.[qo[b]!];
  if (start === undefined || start < 0 || !indptr || !last || !pageSize || qo[b] === qo[b + 1]) return undefined;
  const pages = indptr[b + 1]! - indptr[b]!;
  const length = pages === 0 ? 0 : (pages - 1) * pageSize + (last[b] ?? 0);
  return length - (qo[b + 1]! - qo[b]!) === start ? start : undefined;
}

/** Whether the step's tokens are the sequence's first tokens over again: recomputed after preemption. */
function repeatsHistory(table: RowTable, event: StepEvent, b: number): boolean {
  const seqId = event.seq_ids[b]!;
  const tokens = event.token_ids.slice(event.qo_indptr[b]!, event.qo_indptr[b + 1]!);
  const before: number[] = [];
  for (let row = 0; row < table.count; row++)
    if (table.seqId[row] === seqId) before[table.position[row]!] = table.token[row]!;
  return tokens.length > 1 && tokens.every((token, i) => i >= before.length || before[i] === token);
}
