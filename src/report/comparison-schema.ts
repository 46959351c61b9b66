import { z } from "zod";
import { measured, type Printed, whole } from "../tensor/printed.js";

const place = z.object({ step: z.int(), name: z.string() });
const indices = z.array(whole);
const notes = z.array(z.string());

const sideSchema = z.object({
  dtype: z.string(),
  shape: indices,
  strides: z.array(z.int()),
  order: z.string().nullable().describe("axis order in the letters of the capture format"),
  role: z.enum(["output", "input"]),
  by: z.string().nullable(),
  nan: whole,
  infinite: whole,
  norm: measured,
  digest: z.string(),
  multisetDigest: z.string().describe("equal for equal multisets of values, whatever their order and dtype"),
});

export const comparedValueSchema = z.object({
  step: z.int().describe("of the reference"),
  name: z.string(),
  state: z.enum(["same", "rounding", "relabelled", "differs", "shape"]),
  elements: whole.describe("pairs compared; 0 when they cannot be paired"),
  differing: whole,
  beyondRounding: whole,
  nonFiniteDiffering: whole,
  firstNonFiniteAt: indices.nullable(),
  maxAbsError: measured,
  maxAt: indices.nullable(),
  maxReference: measured,
  maxTarget: measured,
  relativeError: measured,
  expectedNoise: measured.describe("relative error that storing alone may cause"),
  timesNoise: measured,
  cosine: measured,
  reference: sideSchema,
  target: sideSchema,
  notes,
});

/** What `faultline compare --json` prints: docs/compare.md. */
export const comparisonSchema = z.object({
  result: z.enum(["same", "differs"]),
  reference: z.string(),
  target: z.string(),
  first: whole.nullable().describe("index into values: the first in order of execution that is not the same"),
  worst: whole.nullable().describe("index into values: the furthest beyond its noise"),
  values: z.array(comparedValueSchema),
  missing: z.array(place),
  extra: z.array(place),
  stepCounts: z.object({ reference: whole, target: whole }),
  steps: z.array(z.object({ reference: z.int(), target: z.int(), notes })),
  skipped: z.array(z.object({ side: z.enum(["reference", "target"]), value: z.string(), why: z.string() })),
});

/** A comparison as `--json` prints it. */
export type ComparisonJson = Printed<typeof comparisonSchema>;
