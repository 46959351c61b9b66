import type { StepEvent } from "../../capture/format.js";
import { classed } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import type { Investigation } from "../check/investigation.js";

/** Entries of a table that must be as its numbers' memory makes them: fewer may be so by chance. */
const fewestMisread = 3;

/** Flat slot that the append was told for a row; undefined when that was not recorded. */
export function writtenSlot({ capture, observations: { rows } }: Investigation, row: number): number | undefined {
  const stepIndex = rows.stepOf[row]!;
  return capture.steps[stepIndex]?.slot_mapping?.[row - rows.steps[stepIndex]!.firstRow];
}

/** Page numbers of 64 bits that a kernel reads as numbers of 32: each is followed by its upper half, which is 0. */
export function misreadNumbers(
  investigation: Investigation,
  event: StepEvent,
  stepIndex: number,
): DirectCause | undefined {
  const read = event.kv_indices!;
  const meant = pagesByAppend(investigation, event, stepIndex);
  if (!meant || read.length < fewestMisread || meant.length !== read.length) return undefined;
  if (!read.every((page, i) => page === (i % 2 === 0 ? meant[i / 2] : 0))) return undefined;
  if (read.every((page, i) => page === meant[i])) return undefined;
  return {
    ...classed("dtype-bits"),
    unit: "kv_indices",
    step: event.step,
    parameters: { written: "int64", read: "int32" },
    statement: `page numbers are written as int64, read as int32: [${read.slice(0, 6)}${read.length > 6 ? ", …" : ""}] for [${meant.slice(0, 6)}${meant.length > 6 ? ", …" : ""}], every second one the upper half of the one before`,
    group: "dtype-bits kv_indices",
    samples: read.length,
  };
}

/** The page table of a step as its slots fill it; undefined where a page was never written in the recording. */
function pagesByAppend(investigation: Investigation, event: StepEvent, stepIndex: number): number[] | undefined {
  const { lengths, histories } = investigation.observations.rows.steps[stepIndex]!;
  const size = event.page_size!;
  const pages: number[] = [];
  for (let b = 0; b < lengths.length; b++) {
    for (let position = 0; position < lengths[b]!; position += size) {
      const slot = writtenSlot(investigation, histories[b]![position]!);
      if (slot === undefined) return undefined;
      pages.push(Math.floor(slot / size));
    }
  }
  return pages;
}
