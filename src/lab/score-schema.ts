import { z } from "zod";
import { measured, printed, whole } from "../tensor/printed.js";
import type { Score } from "./benchmark.js";
import type { CorrectScore } from "./correct/runs.js";
import type { faultData, runData } from "./format.js";
import type { ClassScore } from "./score-table.js";

const names = z.array(z.string());
const kind = z.enum(["kernel", "seam", "metadata", "parameter", "state", "environment", "observer"]);
const setting = z.union([measured, z.string()]);

/** What `faultline lab list --json` prints. */
export const faultsSchema = z.array(
  printed<ReturnType<typeof faultData>>()(
    z.object({
      id: z.string(),
      title: z.string(),
      kind,
      transform: z.string(),
      scope: z.enum(["layer", "model"]),
      situation: z.string(),
      expected: names.describe("causes that name it rightly"),
      hiddenWhen: z.string(),
    }),
  ),
);

const correctScoreSchema = printed<CorrectScore>()(
  z.object({
    id: z.string(),
    model: z.string(),
    text: z.string(),
    store: z.string(),
    accused: z.boolean(),
    causes: names,
    findings: names,
    drawn: z.record(z.string(), z.unknown()),
    milliseconds: measured,
    baselines: z
      .object({
        allclose: z.string().optional(),
        cosine: z.string().optional(),
        relative: z.string().optional(),
      })
      .optional(),
  }),
);

const baseline = z.enum(["placed", "elsewhere", "missed"]);

const scoreSchema = printed<Score>()(
  z.object({
    fault: z.string(),
    kind,
    model: z.string(),
    store: z.string(),
    layers: z.array(whole),
    recorded: z.string(),
    values: z.record(z.string(), setting),
    outcome: z.enum(["named", "ambiguous", "unexplained", "placed", "false-alarm", "missed", "hidden"]),
    verdict: z.enum(["clean", "fault", "ambiguous", "inconclusive"]),
    causes: names,
    strangers: names.describe("units accused that are not the fault's"),
    parameters: z.object({ recovered: whole, compared: whole }),
    milliseconds: measured,
    baselines: z.object({ allclose: baseline, cosine: baseline, relative: baseline }).optional(),
  }),
);

const classScoreSchema = printed<ClassScore>()(
  z.object({
    kind: z.string(),
    faults: whole,
    runs: whole,
    placed: whole,
    named: whole,
    wrong: whole,
    baselines: z.record(z.string(), whole).optional(),
  }),
);

/** What `faultline lab run --json` prints. */
export const labRunSchema = printed<ReturnType<typeof runData>>()(
  z.object({
    correct: z.object({ runs: whole, accused: whole, scores: z.array(correctScoreSchema) }),
    counts: z.object({
      named: whole,
      ambiguous: whole,
      unexplained: whole,
      placed: whole,
      "false-alarm": whole,
      missed: whole,
      hidden: whole,
    }),
    table: z.array(classScoreSchema),
    scores: z.array(scoreSchema),
  }),
);
