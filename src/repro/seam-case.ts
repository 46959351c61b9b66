import type { PlacedPaged } from "../capture/observations.js";
import type { Investigation } from "../diagnose/check/investigation.js";
import { keysRead, misread } from "../diagnose/records/seams.js";
import { indices } from "../spec/op.js";
import { roundTo } from "../tensor/dtype.js";
import { asStored } from "./criterion.js";
import { caseRow } from "./reads.js";
import type { CaseInput, UnitCase } from "./unit-case.js";

/** Rows of a value that is read otherwise than it was written; the wrong ones first. */
const mostRows = 32;

/** A seam alone: a value as it was produced, and as its consumer addressed it. undefined where both are the same. */
export function seamCase(investigation: Investigation, name: string, statement: string): UnitCase | undefined {
  return denseCase(investigation, name, statement) ?? cacheCase(investigation, name, statement);
}

function denseCase(investigation: Investigation, name: string, statement: string): UnitCase | undefined {
  const { observations, graph } = investigation;
  const records = observations.denseRecords(name);
  for (const input of records) {
    const output = records.find(({ record, stepIndex }) => record.role === "output" && stepIndex === input.stepIndex);
    if (input.record.role !== "input" || !output) continue;
    const wrong = misread(investigation, output, input);
    if (wrong.length === 0) continue;
    const rows = wrong.slice(0, mostRows);
    const { columns } = graph.node(name);
    const read = (from: typeof input) => {
      const values = new Float64Array(rows.length * columns);
      rows.forEach((row, r) => {
        values.set(observations.rowOf(from, row)!.value, r * columns);
      });
      return values;
    };
    const produced = read(output);
    const dtype = input.record.view.dtype;
    const from = {
      name,
      rows: rows.map((row) => caseRow(investigation, row)),
      values: { shape: [rows.length, columns], values: produced },
    };
    const views = { written: output.record.view, read: input.record.view, by: input.record.by ?? null };
    const expected = produced.map((x) => roundTo(x, dtype));
    return { ...handedOn(from, columns, statement), dtype, criterion: equal(expected), observed: read(input), views };
  }
  return undefined;
}

function cacheCase(investigation: Investigation, name: string, statement: string): UnitCase | undefined {
  const { observations, graph } = investigation;
  const placed = observations.pagedRecords(name).filter(({ record }) => record.role === "input");
  for (const read of placed) {
    const found = wrongKeys(investigation, name, read);
    if (found.length === 0) continue;
    const { columns } = graph.node(name);
    const observed = new Float64Array(found.length * columns);
    const expected = new Float64Array(found.length * columns);
    found.forEach((key, r) => {
      observed.set(key.read, r * columns);
      expected.set(key.meant, r * columns);
    });
    const from = {
      name: graph.node(name).inputs[0]!,
      rows: found.map(({ row }) => caseRow(investigation, row)),
      values: { shape: [found.length, columns], values: expected },
    };
    const { kv_indptr, kv_indices, kv_last_page_len, page_size, step } = investigation.capture.steps[read.stepIndex]!;
    const table = { step, page_size, kv_indptr, kv_indices, kv_last_page_len };
    const views = { read: read.record.view, table, slots: found.map(({ slot }) => slot) };
    const base = handedOn(from, columns, statement);
    return { ...base, unit: name, dtype: read.record.view.dtype, criterion: equal(expected), observed, views };
  }
  return undefined;
}

/** Keys that a step does not read as the append leaves them. */
function wrongKeys(investigation: Investigation, name: string, placed: PlacedPaged) {
  const { observations, evaluator } = investigation;
  const dtype = placed.record.view.dtype;
  const narrow = (observations.cachedType(placed)?.scale ?? 1) !== 1;
  const out: { row: number; slot: number; read: Float64Array; meant: Float64Array }[] = [];
  for (const { row, slot } of keysRead(investigation, placed.stepIndex)) {
    if (out.length >= mostRows) break;
    const read = observations.slotRow(placed, slot)?.value;
    if (!read || observations.rows.stepOf[row]! < 0) continue;
    const { value } = evaluator.withoutNoise().evaluate(name, Int32Array.of(row));
    const meant = narrow ? value : asStored(value, dtype);
    if (!meant.every((x, i) => x === read[i] || Number.isNaN(x))) out.push({ row, slot, read: read.slice(), meant });
  }
  return out;
}

/** A unit that computes nothing: what was produced is to be read. */
function handedOn(input: CaseInput, columns: number, statement: string) {
  return {
    unit: input.name,
    statement,
    rows: input.rows,
    columns: [...indices(columns)],
    ops: [{ value: input.name, op: "read", inputs: [input.name], attributes: {} }],
    inputs: [input],
    parameters: [],
  };
}

function equal(expected: Float64Array) {
  return { by: "equal" as const, expected, farthest: new Float64Array(expected.length) };
}
