import { Command } from "commander";
import type { Imported } from "../importers/import-schema.js";
import { openRecording } from "../importers/recording.js";
import { writeCapture } from "../importers/write-capture.js";
import { visibleJson } from "../report/visible-text.js";
import { readModelConfig } from "../spec/models/config-file.js";
import { InputError } from "../tensor/errors.js";
import { namesFor } from "./names-of.js";

interface Options {
  readonly model: string;
  readonly names?: string;
  readonly out: string;
  readonly json?: boolean;
}

/** `faultline import DUMP --model DIR --out RUN`. */
export function importCommand(): Command {
  return new Command("import")
    .summary("write someone else's dump as a capture directory")
    .description(
      "Writes DUMP under the names of the model as a capture directory, for compare, for diagnosis in shares, or to hand on. faultline diagnose reads a dump as it is.",
    )
    .argument("<dump>", "a recording that faultline names reads")
    .requiredOption("-m, --model <dir>", "model folder")
    .requiredOption("-o, --out <dir>", "a new directory for the capture")
    .option("-n, --names <file>", "what its tensors are (see faultline names)")
    .option("--json", "print what was written as JSON")
    .addHelpText("after", "\nExample:\n  faultline import activations.pt --model ./Qwen3-0.6B --out run/")
    .action((path: string, { model, names: file, out, json }: Options) => {
      const names = namesFor(path, model, file);
      if (!names) throw new InputError(`${path}: expected someone else's dump, or names for its tensors with --names`);
      const capture = openRecording(path, names);
      const values = writeCapture(capture, out, readModelConfig(model).json);
      const written: Imported = { out, values, steps: capture.steps.length };
      process.stdout.write(json ? `${visibleJson(written)}\n` : `${out}: ${values} values of ${written.steps} steps\n`);
    });
}
