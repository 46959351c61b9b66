import { Command } from "commander";
import { benchCheckerCommand } from "./bench-checker.js";
import { benchEngineCommand } from "./bench-engine.js";

/** `faultline bench`: one subcommand per file. A wrong option is thrown, for main to exit with 2. */
export function benchCommand(): Command {
  return new Command("bench")
    .description("measure speed and memory on this machine")
    .addCommand(benchCheckerCommand().exitOverride())
    .addCommand(benchEngineCommand().exitOverride());
}
