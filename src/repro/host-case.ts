import type { Investigation } from "../diagnose/check/investigation.js";
import type { UnitCase } from "./unit-case.js";

/** What the host of a step derives from token counts, as a test: the first step in which it is wrong. */
export function hostCase(investigation: Investigation, name: string, statement: string): UnitCase | undefined {
  const { capture, observations } = investigation;
  for (const [stepIndex, event] of capture.steps.entries()) {
    const lists: Record<string, () => readonly (number | undefined)[]> = {
      positions: () => rowsOf(investigation, stepIndex).map((row) => observations.rows.rotaryPosition(row)),
      kv_indptr: () => pageCounts(investigation, stepIndex),
      kv_last_page_len: () => lastPages(investigation, stepIndex),
      slot_mapping: () => slots(investigation, stepIndex),
    };
    const observed = lists[name] && event[name as "positions"];
    const expected = observed && lists[name]!();
    if (!observed || !expected) continue;
    if (expected.length === observed.length && expected.every((n, i) => n === undefined || n === observed[i])) continue;
    return {
      unit: name,
      statement,
      dtype: "int64",
      rows: [],
      columns: expected.map((_, i) => i),
      ops: [{ value: name, op: "host", inputs: [], attributes: {} }],
      inputs: [],
      parameters: [],
      criterion: {
        by: "equal",
        expected: Float64Array.from(expected, (n) => n ?? 0),
        farthest: Float64Array.from(expected, (n) => (n === undefined ? Infinity : 0)),
      },
      // A list that is too short holds no number where one is missing.
      observed: Float64Array.from(expected, (_, i) => observed[i] ?? Number.NaN),
      views: { step: { ...event, [name]: undefined }, lengths: observations.rows.steps[stepIndex]!.lengths },
    };
  }
  return undefined;
}

function rowsOf({ observations }: Investigation, stepIndex: number): number[] {
  return [...observations.rows.rowsOf(stepIndex)];
}

/** Where each sequence's pages begin: pages enough for its keys. */
function pageCounts({ capture, observations }: Investigation, stepIndex: number): number[] {
  const size = capture.steps[stepIndex]!.page_size ?? 1;
  const out = [0];
  for (const length of observations.rows.steps[stepIndex]!.lengths) out.push(out.at(-1)! + Math.ceil(length / size));
  return out;
}

function lastPages({ capture, observations }: Investigation, stepIndex: number): number[] {
  const size = capture.steps[stepIndex]!.page_size ?? 1;
  return observations.rows.steps[stepIndex]!.lengths.map((length) => (length === 0 ? 0 : ((length - 1) % size) + 1));
}

/** By the recorded page table and the positions that token counts give. */
function slots(investigation: Investigation, stepIndex: number): (number | undefined)[] {
  const { rows } = investigation.observations;
  return rowsOf(investigation, stepIndex).map((row) =>
    investigation.observations.readSlot(stepIndex, rows.sequenceOf[row]!, rows.position[row]!),
  );
}
