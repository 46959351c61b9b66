#!/usr/bin/env node
import { Command, CommanderError } from "commander";
import { visible } from "../report/visible-text.js";
import { InputError } from "../tensor/errors.js";
import { benchCommand } from "./bench.js";
import { compareCommand } from "./compare.js";
import { demoCommand } from "./demo.js";
import { diagnoseCommand } from "./diagnose.js";
import { generateCommand } from "./generate.js";
import { importCommand } from "./import.js";
import { labCommand } from "./lab.js";
import { mergeCommand } from "./merge.js";
import { namesCommand } from "./names.js";
import { version } from "./reports.js";
import { reproCommand } from "./repro.js";

const program = new Command("faultline")
  .description(
    "Says which op, or which seam between two ops, of a language model's run computed something the model does not mean, why, and proves it.",
  )
  .version(version())
  .addCommand(diagnoseCommand())
  .addCommand(mergeCommand())
  .addCommand(namesCommand())
  .addCommand(importCommand())
  .addCommand(compareCommand())
  .addCommand(reproCommand())
  .addCommand(generateCommand())
  .addCommand(labCommand())
  .addCommand(benchCommand())
  .addCommand(demoCommand())
  .showHelpAfterError("(faultline --help explains)")
  .exitOverride();

for (const command of program.commands)
  command.exitOverride().showHelpAfterError(`(faultline ${command.name()} --help explains)`);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) process.exitCode = error.exitCode === 0 ? 0 : 2;
  else if (error instanceof InputError) {
    process.stderr.write(`faultline: ${visible(error.message)}\n`);
    process.exitCode = 2;
  } else throw error;
}
