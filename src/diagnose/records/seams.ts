import type { PlacedDense, PlacedPaged } from "../../capture/observations.js";
import { roundTo } from "../../tensor/dtype.js";
import { isQuantised } from "../../tensor/scaled-type.js";
import { holds, type Key, producedFor, type WrongKey, whenWritten } from "../causes/cached-key.js";
import { classed } from "../causes/catalogue.js";
import type { DirectCause } from "../causes/direct-cause.js";
import { ranges } from "../check/extent.js";
import type { Investigation } from "../check/investigation.js";
import { explainCache } from "./cache-cause.js";
import { writtenSlot } from "./page-tables.js";
import { readInstead } from "./read-instead.js";

/** How the records of producers and consumers agree. */
export interface SeamReport {
  readonly causes: DirectCause[];
  readonly compared: { pages: number; keys: number; dense: number };
}

/**
 * Compares both views of every recorded seam: KV caches as written and as read, and dense values with two records.
 * @param wrongTables steps whose page table is known to be wrong: keys read elsewhere than they were written follow from it.
 */
export function checkSeams(investigation: Investigation, wrongTables: ReadonlySet<number> = new Set()): SeamReport {
  const causes: DirectCause[] = [];
  const compared = { pages: 0, keys: 0, dense: 0 };
  for (const node of investigation.graph.nodes.values()) {
    for (const placed of investigation.observations.pagedRecords(node.name)) {
      if (placed.record.role !== "input") continue;
      compared.pages += placed.record.pages.size;
      const isWrong = wrongTables.has(placed.record.step);
      const found = checkCache(investigation, node.name, placed, compared, isWrong);
      if (found) causes.push(found);
    }
    const found = checkDense(investigation, node.name, compared);
    causes.push(...found);
  }
  return { causes, compared };
}

const keysPerSequence = 256;

/** The keys a step reads, by its own page table: all of short sequences, edges and an even spread of long ones. */
export function keysRead({ observations }: Investigation, stepIndex: number): Key[] {
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

/**
 * Keys of a recorded cache that a step does not read as they were appended; those that were already written wrongly are
 * the append's. `own` are the slots of the right ones.
 */
export function wrongKeys(
  investigation: Investigation,
  name: string,
  placed: PlacedPaged,
): { wrong: WrongKey[]; own: Set<number>; checked: number } {
  const { observations } = investigation;
  const type = observations.cachedType(placed);
  const wrong: WrongKey[] = [];
  const own = new Set<number>();
  let checked = 0;
  if (!type) return { wrong, own, checked };
  for (const key of keysRead(investigation, placed.stepIndex)) {
    const produced = producedFor(investigation, name, key.row);
    const stored = observations.storedRow(placed, key.slot)?.value;
    if (!produced || !stored) continue;
    checked++;
    if (holds(stored, produced, type)) {
      own.add(key.slot);
      continue;
    }
    // What was written wrongly and is read as it was written is the append's fault: its own unit says so.
    const written = isQuantised(type.dtype) ? undefined : whenWritten(investigation, name, key.row);
    if (written && !holds(written.stored, produced, written.type) && same(written.stored, stored)) continue;
    wrong.push({ key, produced, stored });
  }
  return { wrong, own, checked };
}

function checkCache(
  investigation: Investigation,
  name: string,
  placed: PlacedPaged,
  compared: { keys: number },
  hasWrongTable: boolean,
): DirectCause | undefined {
  const type = investigation.observations.cachedType(placed);
  if (!type) return undefined;
  const { wrong: found, own, checked } = wrongKeys(investigation, name, placed);
  compared.keys += checked;
  const isElsewhere = ({ key }: WrongKey) => (writtenSlot(investigation, key.row) ?? key.slot) !== key.slot;
  const wrong = hasWrongTable ? found.filter((key) => !isElsewhere(key)) : found;
  if (wrong.length === 0) return undefined;
  const { cause, kind, transform, statement, parameters } = explainCache(investigation, name, placed, wrong, own, type);
  const { layer, site } = investigation.graph.node(name);
  const where = `${wrong.length} of ${checked} ${site.what === "key-cache" ? "keys" : "values"} that step ${placed.record.step} reads are not what was appended (first: sequence ${investigation.capture.steps[placed.stepIndex]!.seq_ids[wrong[0]!.key.b]}, position ${wrong[0]!.key.position})`;
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
    const wrong = misread(investigation, output, input);
    if (wrong.length === 0) continue;
    const a = output.record.view;
    const b = input.record.view;
    const reader = input.record.by ?? "its consumer";
    const sameAxes = a.shape.join() === b.shape.join();
    const strides = sameAxes
      ? a.strides.join() !== b.strides.join()
      : a.storage === b.storage && addressesOf(output) !== addressesOf(input);
    const bits = a.dtype !== b.dtype;
    const other = bits ? undefined : readInstead(investigation, investigation.graph.node(name), input);
    if (other) {
      const { layer } = investigation.graph.node(name);
      const where = { unit: name, step: input.record.step, layer };
      out.push({ ...other, ...where, samples: input.rows.length, rows: ranges(wrong) });
      continue;
    }
    const cause = bits
      ? "dtype-bits"
      : strides
        ? "stride-mismatch"
        : a.storage === b.storage && a.epoch !== b.epoch
          ? "overwritten-before-read"
          : "operand-differs";
    out.push({
      ...classed(cause),
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

/** Rows of a dense value that its consumer's record does not hold as its producer's does. */
export function misread({ observations }: Investigation, output: PlacedDense, input: PlacedDense): number[] {
  return [...input.rows].filter((row) => {
    const produced = observations.rowOf(output, row)?.value;
    const consumed = observations.rowOf(input, row)?.value;
    if (!produced || !consumed) return false;
    const dtype = input.record.view.dtype;
    return !same(
      consumed,
      produced.map((x) => roundTo(x, dtype)),
    );
  });
}

/** Where rows, heads and channels lie from the first element on, whatever the axes of the view are. */
function addressesOf({ axes, rows }: PlacedDense): string {
  const toNextRow = rows.length > 1 ? axes.startOf(1) - axes.startOf(0) : 0;
  return JSON.stringify([toNextRow, axes.pieces]);
}

function same(a: Float64Array, b: Float64Array): boolean {
  return a.every((x, i) => x === b[i] || (Number.isNaN(x) && Number.isNaN(b[i]!)));
}
