import { readFileSync } from "node:fs";
import { Command } from "commander";
import { benchCommand } from "./bench.js";
import { compareCommand } from "./compare.js";
import { demoCommand } from "./demo.js";
import { diagnoseCommand } from "./diagnose.js";
import { flashinferCommand } from "./flashinfer.js";
import { generateCommand } from "./generate.js";
import { importCommand } from "./import.js";
import { labCommand } from "./lab.js";
import { mcpCommand } from "./mcp.js";
import { mergeCommand } from "./merge.js";
import { namesCommand } from "./names.js";
import { reproCommand } from "./repro.js";
import { sweepCommand } from "./sweep.js";
import { viewCommand } from "./view.js";

const { version } = JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")) as {
  version: string;
};

/** All commands. A wrong option is thrown, for main to exit with 2. */
export const program = new Command("faultline")
  .description(
    "Says which op, or which seam between two ops, of a language model's run computed something the model does not mean, why, and proves it.",
  )
  .version(version)
  .addCommand(diagnoseCommand())
  .addCommand(mergeCommand())
  .addCommand(namesCommand())
  .addCommand(importCommand())
  .addCommand(compareCommand())
  .addCommand(reproCommand())
  .addCommand(viewCommand())
  .addCommand(generateCommand())
  .addCommand(sweepCommand())
  .addCommand(labCommand())
  .addCommand(flashinferCommand())
  .addCommand(benchCommand())
  .addCommand(mcpCommand(version))
  .addCommand(demoCommand())
  .showHelpAfterError("(faultline --help explains)")
  .exitOverride();

for (const command of program.commands) {
  for (const each of [command, ...command.commands])
    each.exitOverride().showHelpAfterError(`(faultline ${command.name()} --help explains)`);
}
