import { existsSync } from "node:fs";
import { Command } from "commander";
import { withJudged } from "../diagnose/street.js";
import { visibleJson } from "../report/visible-text.js";
import { makeCase } from "../repro/make-case.js";
import { writeRepro } from "../repro/write-repro.js";
import { InputError } from "../tensor/errors.js";
import { withProgress } from "./verdict.js";

interface Options {
  readonly model: string;
  readonly unit?: string;
  readonly out: string;
  readonly json?: boolean;
}

/** `faultline repro RUN --model DIR --out DIR`. */
export function reproCommand(): Command {
  return new Command("repro")
    .summary("write one failing unit as a test of its own")
    .description(
      "Diagnoses RUN and writes one of its failing units to a new folder: inputs, parameters, what was expected and what was recorded as .npy, a pytest file and a vitest file that fail until the kernel put into them is right. The folder needs nothing of faultline (docs/repro.md).",
    )
    .argument("<run...>", "the suspect run; of several ranks each one's directory")
    .requiredOption("-m, --model <dir>", "model folder: config.json and model.safetensors (or its shards)")
    .option("-u, --unit <name>", "the unit, as the verdict names it (default: the first that it accuses)")
    .requiredOption("-o, --out <dir>", "a folder that does not exist yet")
    .option("--json", "print what was written as JSON")
    .addHelpText(
      "after",
      `
Exit codes: 0 written, 2 bad input, or nothing fails there.

Examples:
  faultline repro cases/exclamation-mark/capture.safetensors --model models/ishmael-7m --out repro
  faultline repro run/ --model ./Qwen3-0.6B --unit model.layers.3.self_attn.o_proj.input --out repro`,
    )
    .action(async (target: string[], { model, unit, out, json }: Options) => {
      // Before the work, not after it.
      if (existsSync(out)) throw new InputError(`--out: ${out}: expected a folder that does not exist yet`);
      const made = await withProgress((progress) =>
        withJudged({ target, model, progress }, (run) => makeCase(run, unit)),
      );
      const written = writeRepro(made, out);
      const size = `${written.rows} × ${written.columns} elements, judged by ${written.criterion}`;
      const text = [`${out}: ${written.unit}, ${size}`, ...written.commands].join("\n  ");
      process.stdout.write(`${json ? visibleJson(written) : text}\n`);
    });
}
