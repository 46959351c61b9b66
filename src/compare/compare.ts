import { type Capture, isPagedRecord, type ValueRecord } from "../capture/capture.js";
import type { Graph } from "../spec/graph.js";
import { byteWidth, type DType } from "../tensor/dtype.js";
import { alignCaptures, type RecordPair, type StepPair, type Unpaired } from "./alignment.js";
import { recordedShape } from "./logical-value.js";
import { measureApart, measurePair, type SideMeasure } from "./measure.js";
import { type PairedElements, pairElements } from "./pairing.js";

/**
 * same: every pair of elements is equal. rounding: none is further apart than one store on each side explains.
 * relabelled: the same values, other order. shape: the elements cannot be paired.
 */
export type ValueState = "same" | "rounding" | "relabelled" | "differs" | "shape";

/** One side of one value. */
export interface ComparedSide extends SideMeasure {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  /** Axis order in the letters of the capture format (NHD or HND for pages), when it is known. */
  readonly order: string | undefined;
  readonly role: "output" | "input";
  readonly by: string | undefined;
}

export interface ComparedValue {
  readonly step: number;
  readonly name: string;
  readonly state: ValueState;
  readonly reference: ComparedSide;
  readonly target: ComparedSide;
  /** Pairs of elements compared; 0 when they cannot be paired. */
  readonly elements: number;
  readonly differing: number;
  /** Differing pairs further apart than half an ulp of each side's dtype. */
  readonly beyondRounding: number;
  /** Pairs of which one is not finite and the other differs. */
  readonly nonFiniteDiffering: number;
  /** Over finite pairs, with its place: [row, column], or an index of the reference's shape. */
  readonly maxAbsError: number;
  readonly maxAt: readonly number[] | undefined;
  readonly maxReference: number | undefined;
  readonly maxTarget: number | undefined;
  readonly firstNonFiniteAt: readonly number[] | undefined;
  /** ‖target - reference‖ / ‖reference‖ over finite pairs; infinite when the reference is all zeros. */
  readonly relativeError: number;
  /** The same figure if the target were the reference's values too, each side having stored them once in its dtype. */
  readonly expectedNoise: number;
  /** relativeError / expectedNoise. */
  readonly timesNoise: number;
  readonly cosine: number | undefined;
  readonly notes: readonly string[];
}

export interface CaptureComparison {
  readonly reference: string;
  readonly target: string;
  readonly same: boolean;
  readonly steps: readonly StepPair[];
  readonly stepCounts: readonly [number, number];
  readonly values: readonly ComparedValue[];
  /** Indices into `values`: the first in order of execution that is not the same, and the furthest beyond its noise. */
  readonly first: number | undefined;
  readonly worst: number | undefined;
  readonly missing: readonly Unpaired[];
  readonly extra: readonly Unpaired[];
  readonly skipped: readonly { side: "reference" | "target"; value: string; why: string }[];
}

export interface CompareOptions {
  /** The model's spec; with it, values are compared by its rows and columns whatever their axis order. */
  readonly graph?: Graph | undefined;
  /** Told the bytes read so far and the bytes to read. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** Elements held at a time. */
  readonly chunk?: number | undefined;
}

/** Compares every value two captures have in common, in the reference's order of execution, in bounded memory. */
export function compareCaptures(reference: Capture, target: Capture, options: CompareOptions = {}): CaptureComparison {
  const { steps, pairs, missing, extra } = alignCaptures(reference, target);
  let done = 0;
  const total = pairs.reduce((sum, pair) => sum + recordedBytes(pair.reference) + recordedBytes(pair.target), 0);
  const advance = (bytes: number) => {
    done += bytes;
    options.onProgress?.(done, total);
  };
  const values = pairs.map((pair) => {
    const paired = pairElements(pair, reference, target, options.graph);
    return comparedValue(pair, paired, advance, options.chunk);
  });
  const stepCounts = [reference.steps.length, target.steps.length] as const;
  const first = values.findIndex((value) => !isSame(value));
  const everythingPaired = missing.length === 0 && stepCounts[0] <= stepCounts[1];
  return {
    reference: reference.path,
    target: target.path,
    same: first < 0 && everythingPaired && values.length > 0,
    steps,
    stepCounts,
    values,
    first: first < 0 ? undefined : first,
    worst: worstOf(values),
    missing,
    extra,
    skipped: [
      ...reference.skipped.map((skip) => ({ side: "reference" as const, ...skip })),
      ...target.skipped.map((skip) => ({ side: "target" as const, ...skip })),
    ],
  };
}

/** Whether a value counts as equal: to within the rounding of its stores. */
export function isSame(value: ComparedValue): boolean {
  return value.state === "same" || value.state === "rounding";
}

function comparedValue(
  pair: RecordPair,
  paired: PairedElements,
  advance: (bytes: number) => void,
  chunk: number | undefined,
): ComparedValue {
  const { a, b } = paired;
  const { reference, target, noise, difference } = (paired.comparable ? measurePair : measureApart)(
    a,
    b,
    advance,
    chunk,
  );
  const relativeError = difference ? quotient(Math.sqrt(difference.squares), reference.norm) : Number.NaN;
  const expectedNoise = quotient(noise, reference.norm);
  const sameMultiset = reference.multisetDigest === target.multisetDigest && a.length === b.length;
  let state: ValueState = "same";
  if (!difference) state = sameMultiset ? "relabelled" : "shape";
  else if (difference.differing > 0) {
    if (sameMultiset) state = "relabelled";
    else state = difference.beyondRounding === 0 ? "rounding" : "differs";
  }
  const at = (element: number) => (element < 0 ? undefined : paired.coordinate(element));
  return {
    step: pair.reference.step,
    name: pair.name,
    state,
    reference: { ...sideOf(pair.reference, paired.orders[0]), ...reference },
    target: { ...sideOf(pair.target, paired.orders[1]), ...target },
    elements: difference ? a.length : 0,
    differing: difference?.differing ?? 0,
    beyondRounding: difference?.beyondRounding ?? 0,
    nonFiniteDiffering: difference?.nonFinite ?? 0,
    maxAbsError: difference?.maxAbsError ?? Number.NaN,
    maxAt: at(difference?.maxAt ?? -1),
    maxReference: difference && difference.maxAt >= 0 ? difference.maxReference : undefined,
    maxTarget: difference && difference.maxAt >= 0 ? difference.maxTarget : undefined,
    firstNonFiniteAt: at(difference?.firstNonFinite ?? -1),
    relativeError,
    expectedNoise,
    timesNoise: difference ? quotient(Math.sqrt(difference.squares), noise) : Number.NaN,
    cosine: difference ? cosineOf(difference.dot, reference.norm, target.norm) : undefined,
    notes: [...paired.notes, ...viewNotes(pair)],
  };
}

/** 0 / 0 counts as no error at all. */
function quotient(part: number, whole: number): number {
  return part === 0 ? 0 : part / whole;
}

function cosineOf(dot: number, a: number, b: number): number | undefined {
  if (a === 0 || b === 0) return undefined;
  return Math.max(-1, Math.min(1, dot / a / b));
}

/** The value furthest beyond its noise; one side not finite is beyond every distance. Ties go to the earlier. */
function worstOf(values: readonly ComparedValue[]): number | undefined {
  let worst: number | undefined;
  let distance = 0;
  values.forEach((value, i) => {
    if (isSame(value) || value.state === "shape") return;
    const own = value.nonFiniteDiffering > 0 ? Infinity : value.timesNoise;
    if (worst !== undefined && !(own > distance)) return;
    worst = i;
    distance = own;
  });
  return worst;
}

function sideOf(record: ValueRecord, order: string | undefined) {
  const { view, role, by } = record;
  return { dtype: view.dtype, shape: recordedShape(record), strides: view.strides, order, role, by };
}

/** What the two records say differently about the same value. */
function viewNotes({ reference, target }: RecordPair): string[] {
  const notes: string[] = [];
  if (reference.view.dtype !== target.view.dtype) notes.push(`dtype ${reference.view.dtype} / ${target.view.dtype}`);
  if (!isPagedRecord(reference) && !isPagedRecord(target)) {
    const [a, b] = [reference.view, target.view];
    const differ = a.shape.some((n, k) => n > 1 && a.strides[k] !== b.strides[k]);
    if (String(a.shape) === String(b.shape) && differ) notes.push(`strides [${a.strides}] / [${b.strides}]`);
  }
  if (isPagedRecord(reference) && isPagedRecord(target) && reference.view.scale !== target.view.scale)
    notes.push(
      `scale ${reference.view.scale ?? "unknown"} / ${target.view.scale ?? "unknown"}: kept numbers are compared`,
    );
  for (const [side, record] of [
    ["reference", reference],
    ["target", target],
  ] as const) {
    const stored = isPagedRecord(record) ? [...record.pages.values()][0]?.entry.dtype : record.source.entry.dtype;
    if (stored && stored !== record.view.dtype)
      notes.push(`${side}: stored as ${stored}, addressed as ${record.view.dtype}`);
  }
  if (reference.role !== target.role)
    notes.push(
      `${reference.role} / ${target.role}: the value as ${reference.role === "input" ? "its reader addressed it / as it was produced" : "it was produced / as its reader addressed it"}`,
    );
  return notes;
}

function recordedBytes(record: ValueRecord): number {
  return recordedShape(record).reduce((product, n) => product * n, byteWidth(record.view.dtype));
}
