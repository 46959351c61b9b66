import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Command, Option } from "commander";
import { transforms } from "../diagnose/causes/transforms.js";
import { benchmark, type Outcome, type Score } from "../lab/benchmark.js";
import { catalogue, findFault } from "../lab/catalogue.js";
import { type CorrectRun, type CorrectScore, correctRuns, judgeCorrectRuns } from "../lab/correct/runs.js";
import type { Fault } from "../lab/fault.js";
import { correctLine, faultData, runData, scoreLine } from "../lab/format.js";
import { type LabModel, openLabModel, truncateModel } from "../lab/model.js";
import { tableLines } from "../lab/score-table.js";
import { tinyFamilies, writeTinyModel } from "../lab/tiny-model.js";
import { possibleLayers } from "../lab/trial.js";
import type { DType } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import { outputColors } from "./style.js";

const runHelp = `
First the public set of correct runs: over shapes from 64 to 5,120 channels, texts, types, legal ways to round,
padding, caches. None may be accused. Then every fault, in small random models of the three families (Qwen3, Qwen2,
Llama) or in --model. With --fault or --model only faults are run, unless --correct is given.
Models and recordings are written to a temporary folder, and removed once they are judged.

Outcomes of faults: named (the right cause and nothing else), ambiguous (the right cause among the alternatives given),
unexplained (the right units, no cause), placed (the right units, another cause), hidden (this input cannot show the
fault, and nothing is accused), missed, false-alarm (something accused that has nothing).

Exit status: 0 when no correct run was accused, nothing was missed and nothing falsely accused, 1 otherwise, 2 when an input cannot be read.
`;

const stores = ["bfloat16", "float16", "float32"] as const;
/** Correct runs of the public set. */
const correctCount = 540;

interface RunOptions {
  readonly fault?: string[];
  readonly correct?: string;
  readonly layers?: string;
  readonly seeds: string;
  readonly model?: string;
  readonly first?: string;
  readonly dtype: DType[];
  readonly legal?: boolean;
  readonly partial?: boolean;
  readonly baselines?: boolean;
  readonly json?: boolean;
}

/** `faultline lab` */
export function labCommand(): Command {
  const lab = new Command("lab").description("put known faults into real runs and score the diagnosis");
  lab
    .command("list")
    .description("the faults that can be injected")
    .option("--json", "print them as JSON")
    .action(list);
  lab
    .command("run")
    .description("record correct runs and runs with injected faults, diagnose them, score")
    .option("--correct <n>", `correct runs of the public set (default: ${correctCount}; 0 with --fault or --model)`)
    .option("--fault <id...>", 'faults to inject, or "none" (default: all)')
    .option("--layers <list>", "layers to inject into, as 0,2 (default: one drawn per run)")
    .option("--seeds <n>", "draws of settings and text per fault and model", "1")
    .option("--model <dir>", "model folder to inject into")
    .option("--first <layers>", "use only the model's first layers")
    .addOption(
      new Option("--dtype <dtype...>", "what values of faulty runs are stored in")
        .choices(stores)
        .default(["bfloat16"]),
    )
    .option("--legal", "draw also how the rest of a faulty run rounds and sums")
    .option("--partial", "record a part of a faulty run only: every other layer, or the residual stream alone")
    .option("--baselines", "also compare every run with a correct one: assert_close, cosine 0.99, relative 1e-3")
    .option("--json", "print every score as JSON")
    .addHelpText("after", runHelp)
    .action(run);
  return lab;
}

function list({ json }: { json?: boolean }): void {
  if (json) {
    console.log(JSON.stringify(catalogue.map(faultData), null, 2));
    return;
  }
  const width = Math.max(...catalogue.map(({ id }) => id.length));
  for (const fault of catalogue) {
    console.log(`${fault.id.padEnd(width)}  ${fault.title}`);
    console.log(
      outputColors().dim(
        `${" ".repeat(width)}  ${fault.kind}, ${transformText(fault)}; hidden by: ${fault.hiddenWhen}`,
      ),
    );
  }
}

function transformText({ transform }: Fault): string {
  return `${transform} (${transforms[transform].title})`;
}

async function run(options: RunOptions): Promise<void> {
  const faults = options.fault?.[0] === "none" ? [] : (options.fault?.map(findFault) ?? catalogue);
  const usual = options.fault || options.model ? "0" : String(correctCount);
  const runs = correctRuns(whole(options.correct ?? usual, "--correct", 100_000, 0));
  await withFolder(async (folder) => {
    const correct = await judgeCorrect(runs, folder, options);
    const scores = faults.length > 0 ? await injectFaults(faults, folder, options) : [];
    if (scores.length + correct.length === 0) throw new InputError("lab run: none of the faults applies to the model");
    const data = runData(correct, scores);
    const { counts } = data;
    if (options.json) console.log(JSON.stringify(data, null, 2));
    else {
      const parts = Object.entries(counts).map(([outcome, count]) => `${count} ${outcome}`);
      if (scores.length > 0) console.log(`\n${scores.length} runs with a fault: ${parts.join(", ")}`);
      console.log(`\n${tableLines(scores, correct).join("\n")}`);
    }
    if (data.correct.accused + counts.missed + counts["false-alarm"] > 0) process.exitCode = 1;
  });
}

async function judgeCorrect(runs: readonly CorrectRun[], folder: string, options: RunOptions): Promise<CorrectScore[]> {
  const scores: CorrectScore[] = [];
  for await (const score of judgeCorrectRuns(runs, folder, options.baselines)) {
    scores.push(score);
    if (!options.json) console.log(`${paintCorrect(score)}  ${correctLine(score)}`);
    else progress(`correct run ${scores.length} of ${runs.length}`);
  }
  progress("");
  return scores;
}

async function injectFaults(faults: readonly Fault[], folder: string, options: RunOptions): Promise<Score[]> {
  const scores: Score[] = [];
  const layers = options.layers?.split(",").map((part) => whole(part, "--layers", 1023, 0));
  const trials = benchmark({
    models: modelsFor(options, folder, faults),
    faults,
    stores: options.dtype,
    seeds: whole(options.seeds, "--seeds", 10000),
    folder,
    legal: options.legal ?? false,
    partial: options.partial ?? false,
    baselines: options.baselines ?? false,
    ...(layers ? { layers } : {}),
  });
  for await (const score of trials) {
    scores.push(score);
    if (!options.json) console.log(`${paint(score.outcome)}  ${scoreLine(score)}`);
    else progress(`${score.fault} (${new Set(scores.map(({ fault }) => fault)).size} of ${faults.length})`);
  }
  progress("");
  return scores;
}

function modelsFor({ model, first }: RunOptions, folder: string, faults: readonly Fault[]): LabModel[] {
  if (!model) {
    if (first) throw new InputError("--first: expected together with --model");
    return tinyModels(folder, faults);
  }
  if (!first) return [openLabModel(model)];
  return [truncateModel(model, whole(first, "--first", 1024), join(folder, "model"))];
}

/** One of each family; and one with a bias behind attention, where faults are asked for that apply to no other. */
function tinyModels(folder: string, faults: readonly Fault[]): LabModel[] {
  const models = tinyFamilies.map((family) => writeTinyModel(join(folder, family), { family, seed: 5 }));
  const applies = (fault: Fault) => models.some((model) => possibleLayers(model, fault, "bfloat16").length > 0);
  if (faults.every(applies)) return models;
  const config = { attention_bias: true };
  const biased = writeTinyModel(join(folder, "biased"), { family: "llama", seed: 5, config });
  return [...models, biased];
}

/** Runs `action` with a temporary folder that is gone afterwards. */
async function withFolder(action: (folder: string) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "faultline-lab-"));
  try {
    await action(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function whole(text: string, option: string, largest: number, smallest = 1): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < smallest || value > largest || text.trim() === "") {
    throw new InputError(`${option}: expected a whole number from ${smallest} to ${largest}, found "${text}"`);
  }
  return value;
}

/** One line on standard error that the next one replaces; silent when nobody watches. */
function progress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`);
}

function paintCorrect({ accused }: CorrectScore): string {
  const colors = outputColors();
  return accused ? colors.red("accused    ") : colors.green("clean      ");
}

function paint(outcome: Outcome): string {
  const text = outcome.padEnd(11);
  const colors = outputColors();
  if (outcome === "named") return colors.green(text);
  if (outcome === "missed" || outcome === "false-alarm") return colors.red(text);
  return outcome === "hidden" ? colors.dim(text) : colors.yellow(text);
}
