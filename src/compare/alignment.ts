import type { Capture, ValueRecord } from "../capture/capture.js";
import type { StepEvent } from "../capture/format.js";
import { compareExecution, specName } from "../spec/families/execution-order.js";

/** Two steps that are compared: the i-th of the one with the i-th of the other. */
export interface StepPair {
  readonly reference: StepEvent;
  readonly target: StepEvent;
  /** What the two did not do alike, one sentence each; empty when both computed the same tokens. */
  readonly notes: readonly string[];
}

/** Two records of one value. */
export interface RecordPair {
  readonly name: string;
  readonly reference: ValueRecord;
  readonly target: ValueRecord;
  readonly steps: StepPair | undefined;
}

/** A value that only one of the captures has. */
export interface Unpaired {
  readonly step: number;
  readonly name: string;
}

export interface Alignment {
  readonly steps: readonly StepPair[];
  /** In the order in which the reference produced them. */
  readonly pairs: readonly RecordPair[];
  readonly missing: readonly Unpaired[];
  readonly extra: readonly Unpaired[];
}

/**
 * Pairs the records of two captures by step, name, role and consumer. A value that one side recorded as its consumer
 * addressed it and the other only as it was produced is paired with that: both are the same value.
 */
export function alignCaptures(reference: Capture, target: Capture): Alignment {
  const count = Math.min(reference.steps.length, target.steps.length);
  const steps = Array.from({ length: count }, (_, i) => pairSteps(reference, target, i));
  const targetStep = new Map(steps.map((pair) => [pair.reference.step, pair]));
  const shelves = new Map<string, ValueRecord[]>();
  for (const record of target.records) push(shelves, `${record.step} ${specName(record.name)}`, record);
  const used = new Set<ValueRecord>();
  const missing: Unpaired[] = [];
  const pairs: RecordPair[] = [];
  for (const record of inExecutionOrder(reference)) {
    const name = specName(record.name);
    const pair = targetStep.get(record.step);
    const shelf = (pair && shelves.get(`${pair.target.step} ${name}`)) ?? [];
    const match = bestMatch(record, shelf, used);
    if (!match) missing.push({ step: record.step, name });
    else {
      used.add(match);
      pairs.push({ name, reference: record, target: match, steps: pair });
    }
  }
  const compared = new Set(pairs.map((pair) => `${pair.target.step} ${pair.name}`));
  const extra: Unpaired[] = [];
  for (const record of inExecutionOrder(target)) {
    const name = specName(record.name);
    if (!used.has(record) && !compared.has(`${record.step} ${name}`)) extra.push({ step: record.step, name });
  }
  return { steps, pairs, missing: distinct(missing), extra: distinct(extra) };
}

/** The record with the same role and consumer, else the same role, else any; one not yet taken before one that is. */
function bestMatch(
  record: ValueRecord,
  shelf: readonly ValueRecord[],
  used: ReadonlySet<ValueRecord>,
): ValueRecord | undefined {
  const score = (candidate: ValueRecord) =>
    (candidate.role === record.role ? 4 : 0) + (used.has(candidate) ? 0 : 2) + (candidate.by === record.by ? 1 : 0);
  let best: ValueRecord | undefined;
  for (const candidate of shelf) if (!best || score(candidate) > score(best)) best = candidate;
  return best;
}

/** A capture directory keeps the order of production; a plain file is ordered by what its names mean. */
function inExecutionOrder(capture: Capture): readonly ValueRecord[] {
  if (capture.kind === "faultline") return capture.records;
  return [...capture.records].sort((a, b) => compareExecution(specName(a.name), specName(b.name)));
}

function pairSteps(a: Capture, b: Capture, index: number): StepPair {
  const reference = a.steps[index]!;
  const target = b.steps[index]!;
  const notes: string[] = [];
  const fields = [
    ["token_ids", "tokens"],
    ["qo_indptr", "rows per sequence"],
    ["positions", "positions"],
  ] as const;
  for (const [field, words] of fields) {
    const left = reference[field];
    const right = target[field];
    if (!left || !right) continue;
    const at = firstDifference(left, right);
    if (at !== undefined)
      notes.push(`${words} differ from entry ${at} on: ${left[at] ?? "none"} / ${right[at] ?? "none"}`);
  }
  const left = a.samples.find((sample) => sample.step === reference.step)?.token_ids;
  const right = b.samples.find((sample) => sample.step === target.step)?.token_ids;
  const at = left && right ? firstDifference(left, right) : undefined;
  if (at !== undefined)
    notes.push(
      `sampled tokens differ, first for sequence ${reference.seq_ids[at] ?? at}: ${left![at] ?? "none"} / ${right![at] ?? "none"}`,
    );
  return { reference, target, notes };
}

function firstDifference(a: readonly number[], b: readonly number[]): number | undefined {
  for (let i = 0; i < Math.max(a.length, b.length); i++) if (a[i] !== b[i]) return i;
  return undefined;
}

function distinct(values: readonly Unpaired[]): Unpaired[] {
  return [...new Map(values.map((value) => [`${value.step} ${value.name}`, value])).values()];
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}
