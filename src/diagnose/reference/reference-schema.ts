import { z } from "zod";
import { measured, printed, whole } from "../../tensor/printed.js";
import { causeSchema, recordingSchema, verdictSchema, verdictWord } from "../tell/verdict-schema.js";
import type { Diagnosis, ReferenceReport } from "./reference-report.js";

const names = z.array(z.string());
const againstSpec = z.object({ error: measured, rmsZ: measured });

const referenceSchema = printed<ReferenceReport>()(
  z.object({
    summary: z.string(),
    recording: recordingSchema,
    verdict: verdictWord.describe("of the reference by itself"),
    causes: z.array(causeSchema),
    aligned: z.object({
      rows: whole,
      of: whole,
      values: whole,
      onlyInTarget: names,
      onlyInReference: names,
      differences: names,
      forks: z.array(z.object({ sequence: z.int(), position: z.int(), target: z.int(), reference: z.int() })),
    }),
    parting: z
      .object({
        unit: z.string(),
        layer: whole.nullable(),
        step: z.int(),
        referenceStep: z.int(),
        sequence: z.int(),
        position: z.int(),
        wrong: z.enum(["target", "reference", "both"]),
        other: z.enum(["right", "wrong", "unrecorded"]),
        cause: z.string().nullable(),
        otherCause: z.string().nullable(),
      })
      .nullable()
      .describe("the first place at which one of the runs departs from the model; null: nowhere"),
    shared: z.array(z.object({ target: whole.nullable(), reference: whole.nullable(), units: names })),
    firstDifference: z.string().nullable(),
    values: z.array(
      z.object({
        unit: z.string(),
        state: z.enum(["same", "follows", "target", "reference", "both", "shared"]),
        rows: whole,
        elements: whole,
        equal: measured,
        difference: measured,
        cameIn: measured,
        target: againstSpec,
        reference: againstSpec,
      }),
    ),
    fromTokens: z
      .object({
        values: z.array(z.object({ value: z.string(), target: measured, reference: measured })),
        tokens: z.object({ target: z.int().nullable(), reference: z.int().nullable(), spec: z.int() }),
      })
      .nullable(),
    notes: names,
  }),
);

/** What `faultline diagnose --json` prints, with or without `--reference`, and `faultline merge --json`. */
export const diagnosisSchema = printed<Diagnosis>()(
  verdictSchema.extend({ reference: referenceSchema.optional().describe("with --reference: docs/reference-runs.md") }),
);
