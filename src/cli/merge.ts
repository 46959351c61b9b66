import { Command } from "commander";
import { merge } from "../diagnose/diagnose.js";
import { detokenizer } from "./detokenizer.js";
import { preparedReports, reportOption } from "./reports.js";
import { show, type VerdictOptions, withProgress } from "./verdict.js";

interface Options extends VerdictOptions {
  readonly target: string[];
  readonly model: string;
  readonly quick?: boolean;
}

/** `faultline merge PART... --target RUN --model DIR`. */
export function mergeCommand(): Command {
  return new Command("merge")
    .summary("the verdict of a diagnosis whose units were checked in shares")
    .description(
      "Puts together what faultline diagnose --part i/n found, one file for each of n shares, and gives the verdict that one process gives.",
    )
    .argument("<part...>", "the files of all shares, in any order")
    .requiredOption("-t, --target <path...>", "the recording that the shares were checked of")
    .requiredOption("-m, --model <dir>", "its model folder")
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
Exit codes: as of faultline diagnose.

Example:
  for i in 1 2 3 4; do faultline diagnose run/rank* --model DIR --part $i/4 --out part-$i.json & done; wait
  faultline merge part-*.json --target run/rank* --model DIR`,
    )
    .action(async (parts: string[], options: Options) => {
      const { target, model, quick = false } = options;
      const run = { target, model, quick };
      const command = ["faultline", "merge", ...parts, "--target", ...target, "--model", model];
      if (quick) command.push("--quick");
      const write = preparedReports(options.report ?? [], [...parts, ...target, model]);
      const detokenize = detokenizer(model);
      const verdict = await withProgress((progress) =>
        merge(parts, { ...run, progress, detokenize, whileOpen: write.look(model) }),
      );
      show(verdict, options, run);
      await write.all(verdict, { run, command });
    });
}
