import type { StepEvent } from "../../capture/format.js";
import { claimedKeys } from "../../capture/key-slots.js";
import { classed } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import { isLengthsAlone, originOf, type StalePlan, stalePlan } from "../causes/stale-plan.js";
import type { Transform } from "../causes/transforms.js";
import { ranges } from "../check/extent.js";
import type { Investigation } from "../check/investigation.js";
import { misreadNumbers } from "./page-tables.js";

/** Compares positions, lengths, page counts, page tables and slots with what token counts alone imply. */
export function checkMetadata(investigation: Investigation): { causes: DirectCause[]; checked: string[] } {
  const causes: DirectCause[] = [];
  const checked = new Set<string>();
  const found = stalePlan(investigation);
  // Where lengths from before the token look the same, they are named as what they are.
  const plan = found && !isLengthsAlone(found) ? found : undefined;
  investigation.capture.steps.forEach((event, stepIndex) => {
    const report = (found: DirectCause | undefined, what: string) => {
      checked.add(what);
      if (found) causes.push(found);
    };
    if (event.positions) report(checkPositions(investigation, event, stepIndex), "positions");
    for (const [rank, steps] of investigation.capture.ranks?.steps ?? []) {
      const own = steps[stepIndex]!;
      if (own === event || !own.positions) continue;
      const found = checkPositions(investigation, own, stepIndex);
      report(found && { ...found, statement: `rank ${rank}: ${found.statement}` }, "positions");
    }
    if (event.kv_runs) {
      report(checkRuns(investigation, event, stepIndex), "lengths");
      if (event.slot_mapping) report(checkSlots(investigation, event, stepIndex), "slots");
    }
    if (!event.kv_indptr || !event.page_size || event.kv_runs) return;
    const counts = checkPageCounts(investigation, event, stepIndex);
    checked.add("page counts");
    const lengths = event.kv_last_page_len && checkLengths(investigation, event, stepIndex, found);
    if (event.kv_last_page_len) checked.add("lengths");
    const stale = plan && ofPlan(investigation, plan, event, stepIndex);
    causes.push(...(stale ? [stale] : [counts, lengths].filter((found) => found !== undefined)));
    if (!event.kv_indices) return;
    const table = misreadNumbers(investigation, event, stepIndex) ?? checkSharing(investigation, event, stepIndex);
    report(table, "page tables");
    // Slots are held against the table: where that is wrong, they say nothing.
    if (event.slot_mapping && !table) report(checkSlots(investigation, event, stepIndex), "slots");
  });
  return { causes, checked: [...checked] };
}

/** The table of an earlier step, where that is behind all lengths that are wrong. */
function ofPlan(
  { observations }: Investigation,
  plan: StalePlan,
  event: StepEvent,
  stepIndex: number,
): DirectCause | undefined {
  const { planned, readIn } = plan;
  if (!readIn.has(stepIndex)) return undefined;
  const { lengths } = observations.rows.steps[stepIndex]!;
  const grown = lengths.reduce((sum, length, b) => sum + length - (claimedKeys(event, b) ?? length), 0);
  return direct(event, lengths.length, {
    cause: "page-table-stale",
    unit: "kv_indptr",
    parameters: { planned },
    statement: `attention reads ${originOf(plan)}: ${grown} tokens that came since are not in it`,
  });
}

type Found = Pick<DirectCause, "cause" | "parameters" | "statement"> & {
  transform?: Transform;
  unit: string;
  rows?: string;
  group?: string;
};

function direct(event: StepEvent, samples: number, found: Found): DirectCause {
  return {
    ...classed(found.cause),
    step: event.step,
    samples,
    group: `${found.cause} ${JSON.stringify(found.parameters)}`,
    ...found,
  };
}

function checkPositions({ observations }: Investigation, event: StepEvent, stepIndex: number): DirectCause | undefined {
  const { firstRow, rowCount } = observations.rows.steps[stepIndex]!;
  const positions = event.positions!;
  if (positions.length !== rowCount) {
    return direct(event, rowCount, {
      cause: "positions-count",
      unit: "positions",
      parameters: { found: positions.length, expected: rowCount },
      statement: `positions has ${positions.length} entries for ${rowCount} tokens`,
    });
  }
  const counted = (i: number) => observations.rows.rotaryPosition(firstRow + i);
  const wrong = [...positions.keys()].filter((i) => positions[i] !== counted(i));
  if (wrong.length === 0) return undefined;
  const offsets = new Set(wrong.map((i) => positions[i]! - counted(i)));
  const rows = ranges(wrong);
  const first = wrong[0]!;
  const expected = counted(first);
  if (offsets.size === 1) {
    const [offset] = offsets as Set<number> as unknown as [number];
    return direct(event, rowCount, {
      cause: "position-offset",
      unit: "positions",
      rows,
      parameters: { offset },
      statement: `positions are off by ${offset > 0 ? "+" : ""}${offset}: row ${first} has ${positions[first]}, token counts say ${expected}`,
    });
  }
  return direct(event, rowCount, {
    cause: "positions-wrong",
    transform: "T3",
    unit: "positions",
    rows,
    parameters: { rows: wrong.length },
    statement: `${wrong.length} positions are wrong: row ${first} has ${positions[first]}, token counts say ${expected}`,
    group: "positions-wrong",
  });
}

function checkPageCounts(
  { observations }: Investigation,
  event: StepEvent,
  stepIndex: number,
): DirectCause | undefined {
  const { lengths } = observations.rows.steps[stepIndex]!;
  const indptr = event.kv_indptr!;
  const bad =
    indptr.length !== lengths.length + 1 || indptr[0] !== 0 || indptr.some((n, i) => i > 0 && n < indptr[i - 1]!);
  const total = event.kv_indices?.length ?? indptr.at(-1) ?? 0;
  if (bad || (indptr.at(-1) ?? 0) > total) {
    return direct(event, indptr.length, {
      cause: "page-table-shape",
      unit: "kv_indptr",
      parameters: { entries: indptr.length, expected: lengths.length + 1 },
      statement: `kv_indptr must rise from 0 to the ${total} entries of kv_indices in ${lengths.length + 1} numbers`,
      group: "page-table-shape",
    });
  }
  for (let b = 0; b < lengths.length; b++) {
    const pages = indptr[b + 1]! - indptr[b]!;
    const expected = Math.ceil(lengths[b]! / event.page_size!);
    if (pages === expected) continue;
    return direct(event, lengths.length, {
      cause: "page-count",
      unit: "kv_indptr",
      parameters: { difference: pages - expected },
      statement: `sequence ${event.seq_ids[b]} has ${pages} pages for ${lengths[b]} tokens; pages of ${event.page_size} need ${expected}`,
    });
  }
  return undefined;
}

function checkLengths(
  { observations }: Investigation,
  event: StepEvent,
  stepIndex: number,
  plan: StalePlan | undefined,
): DirectCause | undefined {
  const alike = plan?.readIn.has(stepIndex)
    ? `; the page table of step ${plan.planned} run again looks the same: another decode step tells them apart`
    : "";
  const { lengths } = observations.rows.steps[stepIndex]!;
  for (let b = 0; b < lengths.length; b++) {
    const expected = lengths[b] === 0 ? 0 : ((lengths[b]! - 1) % event.page_size!) + 1;
    const found = event.kv_last_page_len![b];
    if (found === expected) continue;
    return direct(event, lengths.length, {
      cause: "last-page-length",
      unit: "kv_last_page_len",
      parameters: { difference: (found ?? 0) - expected },
      statement: `sequence ${event.seq_ids[b]}: kv_last_page_len is ${found}; ${lengths[b]} tokens in pages of ${event.page_size} leave ${expected}${alike}`,
    });
  }
  return undefined;
}

/** Where keys lie in stretches, these hold as many as there are tokens. */
function checkRuns({ observations }: Investigation, event: StepEvent, stepIndex: number): DirectCause | undefined {
  const { lengths } = observations.rows.steps[stepIndex]!;
  const b = lengths.findIndex((length, i) => claimedKeys(event, i) !== length);
  if (b < 0) return undefined;
  const found = claimedKeys(event, b);
  return direct(event, lengths.length, {
    cause: "last-page-length",
    unit: "kv_runs",
    parameters: { difference: (found ?? 0) - lengths[b]! },
    statement: `sequence ${event.seq_ids[b]}: kv_runs give ${found ?? "no"} keys; there are ${lengths[b]} tokens`,
  });
}

/** Pages of one sequence may be another's only as a shared prefix: same place in both tables, both full. */
function checkSharing({ observations }: Investigation, event: StepEvent, stepIndex: number): DirectCause | undefined {
  const { lengths } = observations.rows.steps[stepIndex]!;
  const owner = new Map<number, { b: number; place: number }>();
  for (let b = 0; b < lengths.length; b++) {
    for (let i = event.kv_indptr![b]!; i < (event.kv_indptr![b + 1] ?? 0); i++) {
      const page = event.kv_indices![i]!;
      const place = i - event.kv_indptr![b]!;
      const other = owner.get(page);
      if (
        page < 0 ||
        (other &&
          (other.b === b ||
            other.place !== place ||
            (place + 1) * event.page_size! > Math.min(lengths[b]!, lengths[other.b]!)))
      ) {
        return direct(event, event.kv_indices!.length, {
          cause: "page-table-wrong",
          unit: "kv_indices",
          parameters: { page },
          statement:
            page < 0
              ? `the page table of sequence ${event.seq_ids[b]} names page ${page}`
              : `page ${page} stands in the page tables of sequences ${event.seq_ids[other!.b]} and ${event.seq_ids[b]}`,
          group: "page-table-wrong",
        });
      }
      if (!other) owner.set(page, { b, place });
    }
  }
  return undefined;
}

function checkSlots({ observations }: Investigation, event: StepEvent, stepIndex: number): DirectCause | undefined {
  const { firstRow, rowCount } = observations.rows.steps[stepIndex]!;
  const slots = event.slot_mapping!;
  const expected = Array.from({ length: rowCount }, (_, i) =>
    observations.readSlot(
      stepIndex,
      observations.rows.sequenceOf[firstRow + i]!,
      observations.rows.position[firstRow + i]!,
    ),
  );
  const wrong = [...expected.keys()].filter((i) => expected[i] !== undefined && slots[i] !== expected[i]);
  if (wrong.length === 0 && slots.length === rowCount) return undefined;
  const offsets = new Set(wrong.map((i) => slots[i]! - expected[i]!));
  const offset = offsets.size === 1 ? [...offsets][0]! : undefined;
  const first = wrong[0] ?? 0;
  return direct(event, rowCount, {
    cause: "slot-mapping",
    unit: "slot_mapping",
    rows: ranges(wrong),
    parameters: offset === undefined ? { rows: wrong.length } : { offset },
    statement: `slot_mapping sends row ${first} to slot ${slots[first]}; its page table and position say ${expected[first]}`,
    group: `slot-mapping ${offset ?? ""}`,
  });
}
