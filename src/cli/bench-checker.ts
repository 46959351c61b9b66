import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { Command, Option } from "commander";
import { InputError } from "../tensor/errors.js";
import { type CheckerFigures, checkerText } from "./benchmark/checker-text.js";
import { measureCompare } from "./benchmark/compare-figures.js";
import { measureDiagnose } from "./benchmark/diagnose-figures.js";
import type { LargeDType } from "./benchmark/large-captures.js";
import { thisMachine } from "./benchmark/machine.js";
import { measureShape, type Shape, shapes } from "./benchmark/shape-figures.js";

const help = `
Three measurements, every run in a fresh process; each can be left out:
  compare   two generated captures, streaming, beside NumPy's allclose over the same files (--size 0 leaves it out)
  diagnose  a recording: the golden one of a clone, or --recording and --model, then beside sha256sum of the
            checkpoint and the recording (--runs 0 leaves it out, and the shapes)
  shapes    diagnose of a generated recording in a published model's shape, 64 tokens, clean and with a residual
            dropped in one layer, beside sha256sum of the checkpoint and the recording and beside NumPy's allclose of
            the recording, as ratios (--shape none leaves it out)

A shape needs a Python with numpy and disk: 1.5 GB for 0.6b, 16 GB for 8b. What is needed and free is said first; what
was written is deleted afterwards, and when interrupted. Progress goes to stderr. On a busy machine only the ratios,
and those of processor time rather than of the clock, mean something.

Exit status: 0 when everything was measured or said to be impossible here, 2 when an input cannot be read or a
generated recording got another verdict than it must.
`;

interface Options {
  readonly size: string;
  readonly dtype: LargeDType;
  readonly shape: readonly (Shape | "none")[];
  readonly folder: string;
  readonly python: string;
  readonly runs: string;
  readonly recording?: string;
  readonly model?: string;
  readonly json?: boolean;
}

/** `faultline bench checker` */
export function benchCheckerCommand(): Command {
  return new Command("checker")
    .description("time and memory of compare and of diagnose, beside sha256sum and NumPy's allclose")
    .option("--size <GiB>", "size of each of the two generated captures; 0 leaves compare out", "2")
    .addOption(new Option("--dtype <dtype>", "what they hold").choices(["bfloat16", "float32"]).default("bfloat16"))
    .addOption(
      new Option("--shape <shape...>", "shapes to diagnose generated recordings of; none leaves them out")
        .choices([...shapes, "none"])
        .default(["0.6b"]),
    )
    .option("--folder <dir>", "where all that is generated is written", tmpdir())
    .option("--python <command>", "Python with numpy, for the baseline and the shapes", "python3")
    .option("--runs <n>", "runs of diagnose, and rounds of a shape; 0 leaves both out", "5")
    .option("--recording <file>", "recording to diagnose (default: the golden one of 480 tensors in a clone)")
    .option("--model <dir>", "its model folder (default: models/ishmael-7m of a clone)")
    .option("--json", "print the figures as JSON (docs/performance-checker.md)")
    .addHelpText("after", help)
    .action(benchChecker);
}

async function benchChecker(options: Options): Promise<void> {
  const size = numberOf(options.size, "--size", 64);
  const runs = Math.floor(numberOf(options.runs, "--runs", 1000));
  const chosen = shapesOf(options.shape);
  const { folder, python } = options;
  if (!existsSync(folder)) throw new InputError(`${folder}: expected a folder for temporary files, found none`);
  const compare = await measureCompare(size * 2 ** 30, options);
  const diagnose = await measureDiagnose(runs, options);
  const measured: CheckerFigures["shapes"][number][] = [];
  for (const shape of chosen) measured.push(await measureShape({ shape, rounds: runs, folder, python }));
  const figures: CheckerFigures = { machine: thisMachine(), compare, diagnose, shapes: measured };
  process.stdout.write(options.json ? `${JSON.stringify(figures, null, 2)}\n` : checkerText(figures));
}

function numberOf(text: string, option: string, max: number): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0 && value <= max))
    throw new InputError(`${option}: expected a number from 0 to ${max}, found "${text}"`);
  return value;
}

function shapesOf(words: Options["shape"]): Shape[] {
  const chosen = [...new Set(words)];
  if (chosen.includes("none") && chosen.length > 1)
    throw new InputError(`--shape: expected shapes or none, found "${words.join(" ")}"`);
  return chosen.filter((word) => word !== "none");
}
