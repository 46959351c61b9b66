import { z } from "zod";
import { measured, type Printed, whole } from "../tensor/printed.js";

const names = z.array(z.string());
const indices = z.array(whole);

/** Where a row of a run stands. */
export const caseRowSchema = z.object({
  token: z.int(),
  step: z.int().describe("-1: from before the recording"),
  sequence: z.int(),
  position: z.int(),
  rotary: z.number().optional().describe("what RoPE rotates by, where that is another number"),
});

/** `unit.json` of a folder that `faultline repro` writes: docs/repro.md. Numbers that are not finite are strings. */
export const unitFileSchema = z.object({
  unit: z.string(),
  statement: z.string(),
  dtype: z.string(),
  rows: z.array(caseRowSchema),
  columns: indices,
  ops: z.array(
    z.object({
      value: z.string(),
      op: z.string(),
      inputs: names,
      attributes: z.record(z.string(), z.unknown()),
    }),
  ),
  inputs: z.array(
    z.object({
      key: z.string(),
      file: z.string(),
      name: z.string(),
      rows: z.array(caseRowSchema),
      read_at_step: z.int().optional(),
    }),
  ),
  parameters: z.array(
    z.object({
      name: z.string(),
      shape: indices,
      rows: indices,
      file: z.string().nullable().describe("null: too large to copy"),
    }),
  ),
  criterion: z.enum(["rounding", "bits", "equal"]),
  recipe: z.string().nullable(),
  sigmas: z.number(),
  mean_square: measured,
  views: z
    .record(z.string(), z.unknown())
    .optional()
    .describe("how the value was written and read, where that went wrong"),
});

/** What `faultline repro --json` prints. */
export const reproSchema = z.object({
  out: z.string(),
  unit: z.string(),
  statement: z.string(),
  rows: whole,
  columns: whole,
  criterion: z.enum(["rounding", "bits", "equal"]),
  recipe: z.string().nullable(),
  files: names.describe("what was written, relative to out"),
  commands: names.describe("each fails until the unit is right"),
});

export type WrittenRepro = Printed<typeof reproSchema>;
