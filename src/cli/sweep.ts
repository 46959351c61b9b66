import { Command, Option } from "commander";
import { allFusions } from "../engine/program/fusions.js";
import { type AttentionName, type PathName, pathNames } from "../engine/serve/open-path.js";
import { exclamationMark, type LiveFault, liveFaults } from "../lab/live/faults.js";
import { knobs } from "../lab/live/knobs.js";
import { parseSettings } from "../lab/live/parse-settings.js";
import { type SettingEffect, sweep } from "../lab/live/sweep.js";
import type { sweepSchema } from "../lab/live/sweep-schema.js";
import { SweepTable } from "../report/sweep.js";
import { quoted, visible, visibleJson } from "../report/visible-text.js";
import { readModelConfig } from "../spec/models/config-file.js";
import type { Printed } from "../tensor/printed.js";
import { attentionOption } from "./attention-option.js";
import { type LiveModel, withLiveModel } from "./live-model.js";
import { colorsOnOutput } from "./style.js";
import { withProgress } from "./verdict.js";
import { wholeNumber } from "./whole-number.js";

/** What is continued unless something else is asked for. */
export const defaultPrompt = "Call me Ishmael.";

const entry = (name: string, meaning: string) => `  ${name.padEnd(36)}${meaning}`;
const valuesOf = { factor: "FACTOR", off: "off", "off or reference": "off|reference" };

const help = `
What can be set, N being a layer, a range such as 0-3, or *:
${knobs
  .map(({ name, takes, meaning }) => entry(`layers.N${name && `.${name}`}=${valuesOf[takes]}`, meaning))
  .join("\n")}
${entry("VALUE.scale=FACTOR", "any value of the spec, by its name with or without model.; * for a part of it")}
${entry("VALUE=reference", "the op that makes it is computed by the spec itself, on the host")}
${entry("fusions.NAME=off", `left out of the fused path: ${Object.keys(allFusions).join(", ")}, or *`)}
${entry("faults.NAME=off|on", "a fault of the running path taken out, or put in; * for all that are in it")}

Faults, for --fault and faults.NAME:
${exclamationMark.map(({ name, title }) => entry(name, title)).join("\n")}
${entry("exclamation-mark", "the three together: the case this tool was made for")}
${entry("ID, ID@N", "one of faultline lab list, a layer's with the layers it is put into")}

Clauses with ; between them are set together. Each setting is compared with the same program where factors are 1, so
that every bit that differs is the change's. "First" is the first value that the unchanged model would not make of what
the run computed before it, but for rounding (docs/noise.md). --path as in faultline generate.

Exit status: 0, or 2 when something cannot be read or set.

Examples:
  faultline sweep --model models/ishmael-7m --fault exclamation-mark --set 'layers.*.k_scale=1,0.1,0.01,0.0005'
  faultline sweep --model models/ishmael-7m --set 'layers.3.mlp=off' --set 'fusions.*=off'
  faultline sweep --model models/ishmael-7m --set 'layers.0-3.attention=reference' --path standard --json
`;

/** What is swept, in which path of which model. */
export interface SweepOptions {
  readonly model: string;
  readonly set: string[];
  readonly fault: string[];
  readonly prompt: string;
  readonly path: PathName;
  readonly maxTokens: number;
  readonly adapter?: string;
  readonly attention?: AttentionName;
}

/** Called with what is being done and how far it is, 0 to 1. */
type Progress = (stage: string, done: number) => void;

type Printing = SweepOptions & { readonly json?: true };

/** `faultline sweep`: changes to the running engine, and what each does to its values and its text. */
export function sweepCommand(): Command {
  return new Command("sweep")
    .summary("change the running engine, and see which values and what of the text that changes")
    .description(
      "Runs a model with changes to the running engine, one setting after the other: factors on queries, keys, values and any other value, ops swapped for their reference, branches, layers and fusions left out, faults put in.",
    )
    .requiredOption("-m, --model <dir>", "Hugging Face model folder: config.json, model.safetensors, tokenizer.json")
    .requiredOption(
      "--set <pattern=values>",
      "what is set, to which values; several are swept one after the other",
      collect,
    )
    .option("--fault <name...>", "faults in the running path, before anything is set", collectAll, [])
    .option("--prompt <text>", "text to continue", defaultPrompt)
    .addOption(
      new Option("--path <name>", "the path that runs: reference, standard or fused")
        .choices(pathNames)
        .default("fused"),
    )
    .option("--max-tokens <n>", "tokens generated under each setting", wholeNumber(1, 2 ** 16), 8)
    .option("--adapter <name>", 'part of a GPU\'s name, "software", or "cuda"')
    .addOption(attentionOption())
    .option("--json", "print the effects as JSON (docs/sweep.md)")
    .addHelpText("after", help)
    .action(run);
}

async function run(options: Printing): Promise<void> {
  await withProgress((progress) =>
    swept(options, progress, (live, faults, effects) => {
      if (options.json) process.stdout.write(`${visibleJson(summary(options, live, effects))}\n`);
      else process.stdout.write(text(options, live, faults, effects));
    }),
  );
}

/**
 * What `--json` prints.
 * @throws InputError when the model cannot be read, or something cannot be set.
 */
export function sweepJson(options: SweepOptions, progress: Progress): Promise<Printed<typeof sweepSchema>> {
  return swept(options, progress, (live, _faults, effects) => summary(options, live, effects));
}

/** Runs every setting, and hands on what each does. */
function swept<Result>(
  options: SweepOptions,
  progress: Progress,
  use: (live: LiveModel, faults: readonly LiveFault[], effects: readonly SettingEffect[]) => Result,
): Promise<Result> {
  const { config } = readModelConfig(options.model);
  const faults = [...new Set(options.fault.flatMap(liveFaults))];
  const settings = options.set.flatMap((text) => parseSettings(text, config, faults));
  return withLiveModel(options, async (live) => {
    const effects: SettingEffect[] = [];
    for await (const effect of sweep(live, settings, progress)) effects.push(effect);
    return use(live, faults, effects);
  });
}

function text(
  { path, prompt, model }: SweepOptions,
  live: LiveModel,
  faults: readonly { name: string; title: string }[],
  effects: readonly SettingEffect[],
): string {
  const table = new SweepTable(wordingOf(live), colorsOnOutput());
  for (const effect of effects) table.add(effect);
  const put = faults.map(({ name, title }) => `  with ${name}: ${title}\n`).join("");
  return `${visible(model)}, ${path} path on ${live.engine.device}\n${put}  ${quoted(prompt)} …\n\n${table}`;
}

function summary(
  { path, prompt, fault }: SweepOptions,
  live: LiveModel,
  effects: readonly SettingEffect[],
): Printed<typeof sweepSchema> {
  const wording = wordingOf(live);
  const settings = effects.map((effect) => {
    const { tokenIds } = effect;
    return { ...effect, text: { without: wording(tokenIds.without), with: wording(tokenIds.with) } };
  });
  return { path, device: live.engine.device, prompt, promptTokenIds: live.tokenIds, faults: fault, settings };
}

function wordingOf({ tokenizer }: LiveModel): (tokenIds: readonly number[]) => string {
  return (tokenIds) => tokenizer.decode(tokenIds);
}

function collect(value: string, all: string[] | undefined): string[] {
  return [...(all ?? []), value];
}

function collectAll(value: string, all: string[]): string[] {
  return [...all, value];
}
