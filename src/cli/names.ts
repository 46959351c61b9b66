import { basename } from "node:path";
import { Command } from "commander";
import { writeNames } from "../importers/names-file.js";
import { openDump } from "../importers/recording.js";
import { namesText } from "../report/names.js";
import { visibleJson } from "../report/visible-text.js";
import { mapOnto } from "./names-of.js";
import { outputColors } from "./style.js";

interface Options {
  readonly model: string;
  readonly out?: string;
  readonly json?: boolean;
}

/** `faultline names DUMP --model DIR`. */
export function namesCommand(): Command {
  return new Command("names")
    .summary("say which value of the model every tensor of someone else's dump is")
    .description(
      "Maps the tensors of DUMP onto the values of a model: by name, by bits, by place. Prints the mapping, how each was found, and what is not checked for want of it; writes it to a file that can be corrected and given to diagnose and import as --names.",
    )
    .argument(
      "<dump>",
      "a .pt, .npz, .npy or .safetensors file, or the folder that SGLang's or FlashInfer's recorder wrote",
    )
    .requiredOption("-m, --model <dir>", "model folder: config.json and model.safetensors (or its shards)")
    .option("-o, --out <file>", "the new file of names (default: DUMP.names.json, in the current folder)")
    .option("--json", "print the file's content, and write no file without --out")
    .addHelpText(
      "after",
      `
Exit codes: 0 nothing in doubt, 1 some placements need a look, 2 bad input.

Example:
  faultline names activations.pt --model ./Qwen3-0.6B --out names.json
  faultline diagnose activations.pt --model ./Qwen3-0.6B --names names.json`,
    )
    .action((path: string, { model, out, json }: Options) => {
      const mapping = mapOnto(openDump(path), model);
      const file = out ?? (json ? undefined : `${basename(path)}.names.json`);
      if (file !== undefined) writeNames(file, mapping.names);
      process.stdout.write(json ? `${visibleJson(mapping.names)}\n` : namesText(mapping, file!, outputColors()));
      process.exitCode = mapping.isSure ? 0 : 1;
    });
}
