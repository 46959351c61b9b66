import { z } from "zod";
import { measured, type Printed, whole } from "../../tensor/printed.js";

const place = z.object({
  row: whole.describe("over all steps of the recording; of a value that is only handed on, in this list"),
  token: z.int(),
  step: z.int(),
  sequence: z.int(),
  position: z.int(),
  rotary: z.number().optional(),
});

/** One unit of a judged run: what was expected of it and what was recorded. */
export const unitAnswerSchema = z.object({
  unit: z.string(),
  judged: z.enum(["right", "wrong", "unchecked"]),
  statement: z.string().describe("what the verdict says of it"),
  causes: z.array(z.object({ cause: z.string(), kind: z.string(), statement: z.string() })),
  op: z.string(),
  layer: whole.nullable(),
  inputs: z.array(z.string()).describe("values it was judged from"),
  dtype: z.string().nullable(),
  rmsZ: measured.describe("error in units of the rounding that a correct kernel may show"),
  maxZ: measured,
  checked: whole.describe("elements of the sample that could show something"),
  coverage: z.object({ compared: whole, summed: whole, of: whole }).nullable(),
  recipe: z
    .object({
      id: z.string(),
      title: z.string(),
      known: z.array(z.string()),
      matched: z.boolean().describe("whether it gives the recorded bits of this unit"),
      equal: whole,
      compared: whole,
    })
    .nullable()
    .describe("how it rounds, or the legal way that comes nearest; null where bits decide nothing"),
  extent: z
    .object({
      rows: z.string().optional(),
      heads: z.string().optional(),
      columns: z.string().optional(),
      share: measured,
      holds: z.string().optional(),
    })
    .nullable()
    .describe("where it is wrong; null where it is right"),
  rows: z.array(place).describe("the rows of the elements below"),
  elements: z
    .array(
      z.object({
        row: whole,
        column: whole,
        expected: measured.describe("in float64, before it is stored"),
        observed: measured,
        noise: measured.describe("one sigma of a correct kernel's rounding; null: anything may stand there"),
        z: measured,
      }),
    )
    .describe("of the window that was asked for, else those furthest off"),
});

export type UnitAnswer = Printed<typeof unitAnswerSchema>;
