import type { CaptureComparison, ComparedSide, ComparedValue } from "../compare/compare.js";
import type { ComparisonJson } from "./comparison-schema.js";

type ValueJson = ComparisonJson["values"][number];

/** The comparison as plain data for `--json`; docs/compare.md says what each field means. Numbers that are not finite become null. */
export function comparisonJson(comparison: CaptureComparison): ComparisonJson {
  return {
    result: comparison.same ? "same" : "differs",
    reference: comparison.reference,
    target: comparison.target,
    first: comparison.first ?? null,
    worst: comparison.worst ?? null,
    values: comparison.values.map(valueJson),
    missing: comparison.missing,
    extra: comparison.extra,
    stepCounts: { reference: comparison.stepCounts[0], target: comparison.stepCounts[1] },
    steps: comparison.steps.map(({ reference, target, notes }) => ({
      reference: reference.step,
      target: target.step,
      notes,
    })),
    skipped: comparison.skipped,
  };
}

function valueJson(value: ComparedValue): ValueJson {
  return {
    step: value.step,
    name: value.name,
    state: value.state,
    elements: value.elements,
    differing: value.differing,
    beyondRounding: value.beyondRounding,
    nonFiniteDiffering: value.nonFiniteDiffering,
    firstNonFiniteAt: value.firstNonFiniteAt ?? null,
    maxAbsError: finite(value.maxAbsError),
    maxAt: value.maxAt ?? null,
    maxReference: value.maxReference ?? null,
    maxTarget: value.maxTarget ?? null,
    relativeError: finite(value.relativeError),
    expectedNoise: finite(value.expectedNoise),
    timesNoise: finite(value.timesNoise),
    cosine: value.cosine ?? null,
    reference: sideJson(value.reference),
    target: sideJson(value.target),
    notes: value.notes,
  };
}

function sideJson(side: ComparedSide): ValueJson["target"] {
  return {
    dtype: side.dtype,
    shape: side.shape,
    strides: side.strides,
    order: side.order ?? null,
    role: side.role,
    by: side.by ?? null,
    nan: side.nan,
    infinite: side.infinite,
    norm: finite(side.norm),
    digest: side.digest,
    multisetDigest: side.multisetDigest,
  };
}

function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
