import { existsSync } from "node:fs";
import { z } from "zod";
import { diagnosisSchema } from "../../diagnose/reference/reference-schema.js";
import { pathNames } from "../../engine/serve/open-path.js";
import { namesSchema, writeNames } from "../../importers/names-file.js";
import { openDump } from "../../importers/recording.js";
import { sweepSchema } from "../../lab/live/sweep-schema.js";
import { comparisonJson } from "../../report/comparison-json.js";
import { comparisonSchema } from "../../report/comparison-schema.js";
import { makeCase } from "../../repro/make-case.js";
import { reproSchema } from "../../repro/unit-schema.js";
import { writeRepro } from "../../repro/write-repro.js";
import { InputError } from "../../tensor/errors.js";
import { whole } from "../../tensor/printed.js";
import { compareRuns } from "../compare.js";
import { diagnoseRun } from "../diagnose.js";
import { mapOnto, namesFor } from "../names-of.js";
import { defaultPrompt, sweepJson } from "../sweep.js";
import { pathInput, runInput, runPath, type Tool, tool } from "./tool.js";
import { unitAnswer } from "./unit-answer.js";
import { unitAnswerSchema } from "./unit-schema.js";

const range = z.tuple([whole, whole]).refine(([first, last]) => first <= last, "expected the first, then the last");

const diagnose = tool({
  name: "diagnose",
  title: "Diagnose a recorded run",
  description:
    "Says which op, or which seam between two ops, of a recorded language model run is wrong, names the cause and proves it. `clean` means rounding, not a bug; `notVisible` lists what this recording could not have shown. Ask `unit` about what it accuses.",
  input: z.object({
    ...runInput,
    reference: z
      .array(pathInput)
      .min(1)
      .max(4096)
      .optional()
      .describe("a run of the same text thought to be right: says where the two part"),
    quick: z.boolean().optional().describe("leave out the run from the tokens: causes are proven unit by unit only"),
  }),
  output: diagnosisSchema,
  lessImportant: ["notVisible", "recipes", "units", "unchecked", "ruledOut", "reference.values", "reference.aligned"],
  writes: false,
  answer: ({ target, model, names, reference, quick = false }, { told }) => {
    const run = runPath(target);
    const map = namesFor(run, model, names);
    return diagnoseRun(
      { target: run, model, quick, names: map, ...(reference && { reference: runPath(reference) }) },
      told,
    );
  },
});

const unit = tool({
  name: "unit",
  title: "Look at one unit of a run",
  description:
    "One recorded value of a run: whether it follows from its own recorded inputs, the recipe by which it rounds, where it is wrong, and expected beside observed for the elements furthest off, or for the rows and columns asked for. Names are those of a verdict, such as model.layers.3.self_attn.o_proj.",
  input: z.object({
    ...runInput,
    unit: z.string().min(1).max(300),
    rows: range.optional().describe("first and last row over all steps, of the elements to show"),
    columns: range.optional().describe("first and last column of the elements to show"),
    count: whole.max(4096).optional().describe("elements to show where no window is asked for; default 32"),
  }),
  output: unitAnswerSchema,
  lessImportant: ["elements", "rows", "inputs"],
  writes: false,
  answer: async ({ unit: name, rows, columns, count = 32, ...source }, { held, told }) =>
    unitAnswer(await held.of(source, told), name, { rows, columns }, count),
});

const compare = tool({
  name: "compare",
  title: "Compare two recorded runs",
  description:
    "Two runs element by element, in order of execution. Says what is different, not which run is wrong: two correct runs differ by rounding that grows from layer to layer. Ask `diagnose` which is wrong.",
  input: z.object({
    reference: pathInput.describe("capture of the good run"),
    target: pathInput.describe("capture of the suspect run"),
    model: pathInput.optional().describe("model folder; default: the captures' own config"),
  }),
  output: comparisonSchema,
  lessImportant: ["steps", "skipped"],
  writes: false,
  answer: ({ reference, target, model }, { told }) =>
    comparisonJson(compareRuns(reference, target, model, (done) => told("comparing", done))),
});

const namesOutput = namesSchema.extend({
  isSure: z.boolean().describe("whether nothing needs a person's word"),
  missing: z.array(z.object({ role: z.string(), layers: z.array(whole) })).describe("values that no tensor holds"),
});

const names = tool({
  name: "names",
  title: "Name the tensors of a dump",
  description:
    "Says which value of the model every tensor of someone else's dump (.pt, .npz, SGLang, FlashInfer) is, by name, by bits, by place. With `out` the names are written to a new file, to be corrected and given as `names`.",
  input: z.object({
    dump: pathInput.describe("a .pt, .npz, .npy or .safetensors file, or a folder of dumps"),
    model: runInput.model,
    out: pathInput.optional().describe("a new file for the names"),
  }),
  output: namesOutput,
  lessImportant: ["token_ids", "unplaced"],
  writes: true,
  answer: ({ dump, model, out }, { told }) => {
    const { names, isSure, missing } = mapOnto(openDump(dump), model, told);
    if (out !== undefined) writeNames(out, names);
    return { ...names, isSure, missing };
  },
});

const repro = tool({
  name: "repro",
  title: "Write one failing unit as a test",
  description:
    "Writes one failing unit of a run to a new folder: inputs, parameters, expected and recorded numbers as .npy, a pytest and a vitest file that fail until the kernel put into them is right.",
  input: z.object({
    ...runInput,
    unit: z.string().min(1).max(300).optional().describe("default: the first that the verdict accuses"),
    out: pathInput.describe("a folder that does not exist yet"),
  }),
  output: reproSchema,
  lessImportant: [],
  writes: true,
  answer: async ({ unit: name, out, ...source }, { held, told }) => {
    if (existsSync(out)) throw new InputError(`out: ${out}: expected a folder that does not exist yet`);
    return writeRepro(makeCase(await held.of(source, told), name), out);
  },
});

const sweep = tool({
  name: "sweep",
  title: "Change the running engine",
  description:
    "Runs a model in faultline's engine with changes, one setting after the other, and says which values and what of the text each changes: factors on queries, keys and values (layers.*.k_scale=1,0.1), ops swapped for their reference (layers.0-3.attention=reference), branches and layers off, faults put in or taken out. The fused and standard paths need the GPU packages; reference needs none.",
  input: z.object({
    model: runInput.model,
    set: z
      .array(z.string().min(1).max(1000))
      .min(1)
      .max(256)
      .describe("what is set, to which values: faultline sweep --help"),
    fault: z
      .array(z.string().min(1).max(200))
      .max(64)
      .optional()
      .describe("faults in the running path, before anything is set"),
    prompt: z.string().min(1).max(100_000).optional(),
    path: z.enum(pathNames).optional().describe("default: fused"),
    maxTokens: z.int().min(1).max(65_536).optional().describe("tokens generated under each setting, default 8"),
    adapter: z.string().max(200).optional().describe('part of a GPU\'s name, or "software"'),
  }),
  output: sweepSchema,
  lessImportant: ["promptTokenIds"],
  writes: false,
  answer: ({ fault = [], prompt = defaultPrompt, path = "fused", maxTokens = 8, adapter, ...rest }, { told }) =>
    sweepJson({ ...rest, fault, prompt, path, maxTokens, ...(adapter !== undefined && { adapter }) }, told),
});

/** The tools of `faultline mcp`. */
export const tools: readonly Tool[] = [diagnose, unit, compare, names, repro, sweep];
