import { z } from "zod";
import { type RotaryConvention, RowTable } from "../spec/rows.js";
import type { Capture } from "./capture.js";
import type { StepEvent } from "./format.js";
import { claimedKeys } from "./key-slots.js";
import { columnsOf, type Padding } from "./padding.js";

/** Most tokens that all sequences of a capture together may claim to have had before it began. */
const maxUnrecorded = 2 ** 17;

/** The row table of a capture: positions from token counts, restarts and unrecorded prefixes from consistent metadata. */
export function placeSteps(capture: Capture): RowTable {
  const table = new RowTable();
  const columns = new Columns();
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
    const placed = columns.of(event, capture.paddings?.get(event.step), table, unrecorded);
    table.append({
      step: event.step,
      seqIds: event.seq_ids,
      tokenIds: event.token_ids,
      qoIndptr: event.qo_indptr,
      unrecorded,
      ...placed,
      keyColumns: maskColumns(event) ?? placed.keyColumns,
    });
  }
  settleRotary(table, capture.steps);
  return table;
}

const masked = z.looseObject({ mask: z.looseObject({ shape: z.array(z.int().positive()).min(1) }) });

/** Columns of keys that the mask covers which attention was given, [sequences, heads, queries, columns]. */
function maskColumns({ attention }: StepEvent): number | undefined {
  return masked.safeParse(attention).data?.mask.shape.at(-1);
}

/** Columns of padded rows, counted over all steps of a sequence: where a batch was padded, its later tokens come after the pads. */
class Columns {
  readonly #before = new Map<number, number>();
  #padded = false;

  of(
    { seq_ids: ids, qo_indptr: indptr }: StepEvent,
    padding: Padding | undefined,
    table: RowTable,
    unrecorded: readonly number[],
  ): { columns?: Int32Array; keyColumns?: number } {
    this.#padded ||= padding !== undefined;
    const own = padding && columnsOf(padding);
    const columns = new Int32Array(indptr.at(-1)!);
    for (const [b, id] of ids.entries()) {
      const [first, end] = [indptr[b]!, indptr[b + 1]!];
      const before = this.#before.get(id) ?? table.lengthOf(id) + unrecorded[b]!;
      for (let row = first; row < end; row++) columns[row] = before + (own?.[row] ?? row - first);
      this.#before.set(id, before + (padding?.tokens ?? end - first));
    }
    // Without its mask: a padded batch attends over all columns there are.
    return this.#padded ? { columns, keyColumns: Math.max(...ids.map((id) => this.#before.get(id)!)) } : {};
  }
}

/** Recorded positions of a padded batch say what RoPE counted, also where they are off by one and the same number. */
function settleRotary(table: RowTable, steps: readonly StepEvent[]): void {
  if (table.rotaryChoices.length === 1) return;
  const misfit = (rotary: RotaryConvention) => {
    table.rotary = rotary;
    const offsets = new Set<number>();
    for (const [index, { positions }] of steps.entries()) {
      const { firstRow, rowCount } = table.steps[index]!;
      for (let i = 0; positions && i < rowCount; i++)
        offsets.add((positions[i] ?? Number.NaN) - table.rotaryPosition(firstRow + i));
    }
    return offsets.size === 1 && offsets.has(0) ? 0 : offsets.size;
  };
  const recorded = steps.some(({ positions }) => positions !== undefined);
  const fitting = recorded && misfit("columns") < misfit("counts") ? "columns" : "counts";
  table.rotary = fitting;
  if (recorded) table.rotaryChoices = [fitting];
}

/** Tokens before the step's own, where positions and KV lengths agree on them. */
function claimedPrefix(event: StepEvent, b: number): number | undefined {
  const { positions, qo_indptr: qo } = event;
  const start = positions?.[qo[b]!];
  const length = claimedKeys(event, b);
  if (start === undefined || start < 0 || length === undefined || qo[b] === qo[b + 1]) return undefined;
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
