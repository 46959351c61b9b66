import { Command } from "commander";
import { type DiagnoseOptions, diagnose } from "../diagnose/diagnose.js";
import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import { checkShare, mostShares } from "../diagnose/threads/part-file.js";
import { isForeign } from "../importers/recording.js";
import { InputError } from "../tensor/errors.js";
import { detokenizer } from "./detokenizer.js";
import { namesFor } from "./names-of.js";
import { preparedReports, reportOption } from "./reports.js";
import { show, type VerdictOptions, withProgress } from "./verdict.js";

/** `faultline diagnose TARGET --model DIR`. */
export function diagnoseCommand(): Command {
  return new Command("diagnose")
    .summary("say which op or seam of a recorded run is wrong, why, and prove it")
    .description(
      "Checks every recorded value of TARGET against what the model means, from its own recorded inputs, and names the causes of what rounding cannot explain.\n\nTARGET is a capture directory, the directories of all ranks of a run, or a plain .safetensors file of Hugging Face module outputs with input_ids. Dumps of others (.pt, .npz, SGLang, FlashInfer) are read where their names leave no doubt, else with --names.",
    )
    .argument("<target...>", "the suspect run (also called candidate or actual); of several ranks each one's directory")
    .requiredOption("-m, --model <dir>", "model folder: config.json and model.safetensors (or its shards)")
    .option(
      "-r, --reference <path...>",
      "a run of the same text that is thought to be right (baseline, golden, expected): says where the two part",
    )
    .option("-n, --names <file>", "what the tensors of someone else's dump are (see faultline names)")
    .option("--part <i/n>", "check only share i of n of the units, 1 to n; needs --out")
    .option("--out <file>", "with --part: a new file for what the share found (see faultline merge)")
    .option("-q, --quick", "leave out the run from the tokens: the causes are proven unit by unit only")
    .option("--json", "print the verdict as JSON (docs/verdict.md)")
    .addOption(reportOption())
    .option(
      "-v, --verbose",
      "all there is, not one screen: chain, what is ruled out, how units round, what could not be seen",
    )
    .addHelpText(
      "after",
      `
Exit codes: 0 clean, 1 fault or ambiguous, 2 bad input, 3 inconclusive. They speak of TARGET, also with a reference.

Examples:
  faultline diagnose cases/exclamation-mark --model models/ishmael-7m
  faultline diagnose run/rank* --model ./Qwen3-32B
  faultline diagnose run/ --model ./Qwen3-0.6B --reference hugging-face.safetensors
  faultline diagnose run/ --model ./Qwen3-0.6B --report verdict.md --report verdict.sarif
  faultline diagnose run/ --model ./Qwen3-0.6B --json > verdict.json`,
    )
    .action(async (target: string[], options: Options) => {
      const { model, reference, quick = false } = options;
      if (options.part !== undefined || options.out !== undefined) return diagnoseShare(target, options);
      const command = ["faultline", "diagnose", ...target, "--model", model];
      if (reference) command.push("--reference", ...reference);
      if (options.names !== undefined) command.push("--names", options.names);
      if (quick) command.push("--quick");
      const inputs = [...target, model, ...(reference ?? []), options.names ?? []].flat();
      const write = preparedReports(options.report ?? [], inputs);
      const names = namesFor(target, model, options.names);
      const run = { target, model, quick, names, ...(reference && { reference }) };
      const diagnosis = await runDiagnosis({ ...run, whileOpen: write.look(model) });
      show(diagnosis, options, run);
      await write.all(diagnosis, { run, command });
    });
}

interface Options extends VerdictOptions {
  readonly model: string;
  readonly reference?: string[];
  readonly quick?: boolean;
  readonly names?: string;
  readonly part?: string;
  readonly out?: string;
}

/** One share of the units, to a file. */
async function diagnoseShare(target: string[], options: Options): Promise<void> {
  const { model, part = "", out, names, reference, report } = options;
  for (const [option, value] of Object.entries({ reference, report }))
    if (value) throw new InputError(`--${option}: expected a whole diagnosis, found --part or --out beside it`);
  if (names !== undefined || isForeign(target))
    throw new InputError(
      `${target[0]}: --part: expected a capture; write someone else's dump as one first, with faultline import`,
    );
  const found = /^([1-9]\d{0,4})\/([1-9]\d{0,4})$/.exec(part);
  const [i, of] = [Number(found?.[1]), Number(found?.[2])];
  if (!found || i > of || of > mostShares)
    throw new InputError(
      `--part: expected i/n such as 3/16, i from 1 to n and n at most ${mostShares}, found "${part}"`,
    );
  if (!out) throw new InputError("--out: expected a file for what the share finds");
  const { checked, of: all } = await withProgress((progress) =>
    checkShare({ target, model }, { part: i, of }, out, (done) => progress("checking units", done)),
  );
  process.stdout.write(`${out}: share ${i} of ${of}, ${checked} of ${all} units\n`);
}

type RunOptions = Pick<DiagnoseOptions, "target" | "model" | "reference" | "quick" | "names" | "whileOpen">;

/** Diagnoses with progress on stderr and the model's own tokenizer, where it has one. */
export function runDiagnosis(options: RunOptions): Promise<Diagnosis> {
  return withProgress((progress) => diagnoseRun(options, progress));
}

/** Diagnoses with the model's own tokenizer, where it has one. */
export function diagnoseRun(
  options: RunOptions,
  progress: NonNullable<DiagnoseOptions["progress"]>,
): Promise<Diagnosis> {
  return diagnose({ ...options, progress, detokenize: detokenizer(options.model) });
}
