import { z } from "zod";
import { phases } from "../../spec/phase.js";
import { measured, printed, whole } from "../../tensor/printed.js";
import type { Cause } from "../explain/cause.js";
import type { Proof } from "../prove/proof.js";
import type { Finding, RecordingSummary, Verdict } from "./verdict.js";

const names = z.array(z.string());
const share = z.number().min(0).max(1);

const extent = z.object({
  rows: z.string().optional().describe("rows over all steps of the recording; absent: all"),
  heads: z.string().optional(),
  columns: z.string().optional(),
  share: measured.describe("share of the checked elements that stand beyond rounding"),
  holds: z.string().optional().describe("what stands there instead, when it is one thing: zeros, NaN"),
});

const parameter = z.union([measured, z.string(), z.array(measured), z.record(z.string(), measured)]);

/** A cause as `--json` prints it. */
export const causeSchema = printed<Cause>()(
  z.object({
    cause: z.string().describe("id: docs/causes.md"),
    kind: z.enum(["kernel", "seam", "metadata", "parameter", "state", "environment", "observer"]),
    transform: z.string().describe("class T1 to T20: docs/causes.md"),
    layers: z.array(whole),
    units: names,
    steps: z.array(z.int()),
    extent,
    parameters: z.record(z.string(), parameter).describe("what was found or fitted"),
    statement: z.string(),
    evidence: z.object({
      rmsZ: measured.describe("error in units of rounding as the spec has it"),
      rmsZExplained: measured.describe("the same with the cause in it"),
      samples: whole,
      runnerUp: z.string().nullable(),
      equal: whole.optional().describe("elements recorded bit for bit as the cause has them"),
      compared: whole.optional(),
      equalWithout: share.optional(),
    }),
    alternatives: names.describe("causes that this recording cannot separate from it"),
    separate: z.string().optional().describe("what to record to separate them"),
    latent: z.boolean().optional(),
    notVisible: z.array(z.object({ layers: z.array(whole), why: z.string() })).optional(),
  }),
);

const findingSchema = printed<Finding>()(
  z.object({
    unit: z.string(),
    step: z.int(),
    rmsZ: measured,
    maxZ: measured,
    extent,
    cause: whole.nullable().describe("index into causes; null: nothing explains it"),
    span: z.object({ first: whole, last: whole }).optional().describe("unrecorded layers that it rests on"),
    nearest: z
      .array(
        z.object({
          cause: z.string(),
          site: z.string(),
          statement: z.string(),
          equal: measured.optional(),
          equalWithout: measured.optional(),
          errorsLeft: measured.optional(),
        }),
      )
      .optional(),
    record: names.optional().describe("values to record to see further"),
  }),
);

const proofSchema = printed<Proof>()(
  z.object({
    reproduced: z.object({ matched: whole, of: whole }),
    necessity: z.array(z.object({ without: whole.describe("index into causes"), matched: whole })),
    fromTokens: z
      .object({
        layers: z.object({ matched: whole, of: whole }),
        recordedToken: z.int(),
        reproducedToken: z.int(),
        agreement: measured,
        text: z.string().nullable(),
      })
      .nullable(),
    repair: z.object({ tokenId: z.int(), text: z.string().nullable(), continuation: z.string().nullable() }).nullable(),
    notes: names,
  }),
);

/** What was read, as `--json` prints it. */
export const recordingSchema = printed<RecordingSummary>()(
  z.object({
    path: z.string(),
    model: z.string(),
    steps: whole,
    rows: whole,
    sequences: whole,
    values: whole,
    dtype: z.string(),
    compute: z.string(),
  }),
);

const audit = z.object({ pass: z.boolean(), evidence: z.string() });

export const verdictWord = z.enum(["clean", "fault", "ambiguous", "inconclusive"]);

/** A verdict as `--json` prints it: docs/verdict.md. */
export const verdictSchema = printed<Verdict>()(
  z.object({
    verdict: verdictWord,
    summary: z.string(),
    causes: z.array(causeSchema).describe("in order of origin"),
    findings: z.array(findingSchema).describe("what rounding cannot explain, in order of execution"),
    proof: proofSchema,
    audits: z.object({ boundary: audit, cache: audit, rotary: audit, batch: audit }),
    chain: names.describe("from cause to symptom, in words"),
    ruledOut: z.array(z.object({ suspect: z.string(), evidence: z.string() })),
    notVisible: z
      .array(z.object({ cause: z.string(), why: z.string() }))
      .describe("causes that this recording could not have shown: a pass does not exclude them"),
    unchecked: z.array(z.object({ value: z.string(), why: z.string() })),
    judged: z
      .array(
        z.object({
          unit: z.string(),
          layer: whole.nullable().describe("null outside of layers"),
          outcome: z.enum(["follows", "fails", "unchecked"]),
          rmsZ: measured,
          maxZ: measured,
        }),
      )
      .describe("every unit, in order of execution"),
    units: z.array(
      z.object({
        unit: z.string(),
        count: whole,
        rmsZ: measured,
        worstRmsZ: measured,
        maxZ: measured,
        failed: whole,
        equal: share.nullable(),
      }),
    ),
    recipes: z
      .array(
        z.object({
          unit: z.string(),
          recipe: z.string().nullable().describe("null: no recipe gives the recorded bits"),
          title: z.string(),
          known: names,
          matched: whole,
          of: whole,
          equal: share,
          kept: names,
          departing: z.array(whole),
          phases: z
            .array(
              z.object({
                phase: z.enum(phases),
                recipe: z.string().nullable(),
                title: z.string(),
                known: names,
                equal: share,
                compared: whole,
              }),
            )
            .describe("the rows of each phase by themselves: prefill and decode may be other kernels'"),
        }),
      )
      .describe("how each kind of unit rounds"),
    coverage: z.object({ compared: whole, summed: whole, of: whole }),
    recording: recordingSchema,
  }),
);
