import { Command } from "commander";
import { type DiagnoseOptions, diagnose } from "../diagnose/diagnose.js";
import type { Verdict } from "../diagnose/tell/verdict.js";
import { progressLine } from "../report/progress.js";
import { renderVerdict } from "../report/terminal.js";
import { detokenizer } from "./detokenizer.js";
import { terminalStyle } from "./style.js";

const exitCodes: Record<Verdict["verdict"], number> = { clean: 0, fault: 1, ambiguous: 1, inconclusive: 3 };

/** `faultline diagnose TARGET --model DIR`. */
export function diagnoseCommand(): Command {
  return new Command("diagnose")
    .summary("say which op or seam of a recorded run is wrong, why, and prove it")
    .description(
      "Checks every recorded value of TARGET against what the model means, from its own recorded inputs, and names the causes of what rounding cannot explain.\n\nTARGET is a capture directory or a plain .safetensors file of Hugging Face module outputs with input_ids.",
    )
    .argument("<target>", "the suspect run (also called candidate or actual)")
    .requiredOption("-m, --model <dir>", "model folder: config.json and model.safetensors (or its shards)")
    .option("-q, --quick", "leave out the run from the tokens: the causes are proven unit by unit only")
    .option("--json", "print the verdict as JSON (docs/verdict.md)")
    .option("-v, --verbose", "also print the sensitivity of what passed and everything unchecked")
    .addHelpText(
      "after",
      `
Exit codes: 0 clean, 1 fault or ambiguous, 2 bad input, 3 inconclusive.

Examples:
  faultline diagnose cases/exclamation-mark --model models/ishmael-7m
  faultline diagnose run/ --model ./Qwen3-0.6B --json > verdict.json`,
    )
    .action(async (target: string, options: { model: string; quick?: boolean; json?: boolean; verbose?: boolean }) => {
      const verdict = await runDiagnosis({ target, model: options.model, quick: options.quick ?? false });
      process.stdout.write(
        options.json
          ? `${JSON.stringify(verdict, null, 2)}\n`
          : renderVerdict(verdict, terminalStyle(options.verbose ?? false)),
      );
      process.exitCode = exitCodes[verdict.verdict];
    });
}

/** Diagnoses with progress on stderr and the model's own tokenizer, where it has one. */
export async function runDiagnosis(options: Pick<DiagnoseOptions, "target" | "model" | "quick">): Promise<Verdict> {
  const { report, clear } = progressLine();
  try {
    return await diagnose({ ...options, progress: report, detokenize: detokenizer(options.model) });
  } finally {
    clear();
  }
}
