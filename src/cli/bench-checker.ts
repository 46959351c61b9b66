import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { Command, Option } from "commander";
import { InputError } from "../tensor/errors.js";
import { SafetensorsFile } from "../tensor/safetensors.js";
import { freeBytes, type LargeDType, writeLargeCaptures } from "./benchmark/large-captures.js";
import { type Machine, thisMachine } from "./benchmark/machine.js";
import { type MeasuredRun, runMeasured } from "./benchmark/measured-child.js";
import { type Baseline, measureNumpy } from "./benchmark/numpy-baseline.js";

const help = `
Compares two generated captures, streaming, beside NumPy's allclose over the same two files (which are deleted
afterwards), and diagnoses a recording several times. Every run is a fresh process.

Exit status: 0 when everything was measured or said to be impossible here, 2 when an input cannot be read.
`;

interface Options {
  readonly size: string;
  readonly dtype: LargeDType;
  readonly folder: string;
  readonly python: string;
  readonly runs: string;
  readonly recording?: string;
  readonly model?: string;
  readonly json?: boolean;
}

interface CompareFigures {
  readonly folder: string;
  readonly freeBytes: number;
  readonly bytesPerCapture: number;
  readonly dtype: LargeDType;
  readonly seconds: number;
  readonly cpuSeconds: number;
  readonly peakBytes: number;
  readonly baseline: Baseline;
  /** Our time over NumPy's, by the clock and by the processor; undefined without NumPy. */
  readonly ratio: number | undefined;
  readonly cpuRatio: number | undefined;
}

interface DiagnoseFigures {
  readonly recording: string;
  readonly tensors: number;
  readonly exitCode: number;
  readonly seconds: readonly number[];
  readonly medianSeconds: number;
  readonly medianCpuSeconds: number;
  readonly peakBytes: number;
}

interface CheckerFigures {
  readonly machine: Machine;
  readonly compare: CompareFigures | { readonly skipped: string };
  readonly diagnose: DiagnoseFigures | { readonly skipped: string };
}

/** `faultline bench checker` */
export function benchCheckerCommand(): Command {
  return new Command("checker")
    .description("time and memory of compare (beside NumPy's allclose) and of diagnose")
    .option("--size <GiB>", "size of each of the two generated captures; 0 leaves compare out", "2")
    .addOption(new Option("--dtype <dtype>", "what they hold").choices(["bfloat16", "float32"]).default("bfloat16"))
    .option("--folder <dir>", "where they are written", tmpdir())
    .option("--python <command>", "Python with numpy, for the baseline", "python3")
    .option("--runs <n>", "runs of diagnose; 0 leaves it out", "5")
    .option("--recording <file>", "recording to diagnose (default: the golden one of 480 tensors in a clone)")
    .option("--model <dir>", "its model folder (default: models/ishmael-7m of a clone)")
    .option("--json", "print the figures as JSON (docs/performance-checker.md)")
    .addHelpText("after", help)
    .action(benchChecker);
}

async function benchChecker(options: Options): Promise<void> {
  const size = numberOf(options.size, "--size", 64);
  const runs = numberOf(options.runs, "--runs", 1000);
  if (!existsSync(options.folder))
    throw new InputError(`${options.folder}: expected a folder for temporary captures, found none`);
  const figures: CheckerFigures = {
    machine: thisMachine(),
    compare: await measureCompare(size * 2 ** 30, options),
    diagnose: await measureDiagnose(Math.floor(runs), options),
  };
  process.stdout.write(options.json ? `${JSON.stringify(figures, null, 2)}\n` : checkerText(figures));
}

function numberOf(text: string, option: string, max: number): number {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0 && value <= max))
    throw new InputError(`${option}: expected a number from 0 to ${max}, found "${text}"`);
  return value;
}

async function measureCompare(bytes: number, options: Options): Promise<CheckerFigures["compare"]> {
  if (bytes === 0) return { skipped: "--size 0" };
  const needed = 2 * bytes + 2 ** 28;
  const free = freeBytes(options.folder);
  say(`${gigabytes(free)} free in ${options.folder}, ${gigabytes(needed)} needed`);
  if (free < needed) {
    return {
      skipped: `${options.folder} has ${gigabytes(free)} free, ${gigabytes(needed)} are needed; name another with --folder, or a smaller --size`,
    };
  }
  say("writing two captures");
  const captures = writeLargeCaptures(options.folder, bytes, options.dtype);
  const interrupted = () => {
    captures.remove();
    process.exit(130);
  };
  process.once("SIGINT", interrupted);
  try {
    say("comparing them");
    const run = await runMeasured(["compare", captures.reference, captures.target, "--json"]);
    if (run.exitCode > 1) throw new Error(`compare ended with status ${run.exitCode}`);
    say("numpy.allclose over the same files");
    const baseline = await measureNumpy(options.python, captures.reference, captures.target);
    return {
      folder: options.folder,
      freeBytes: free,
      bytesPerCapture: captures.bytes,
      dtype: options.dtype,
      seconds: run.seconds,
      cpuSeconds: run.cpuSeconds,
      peakBytes: run.peakBytes,
      baseline,
      ratio: "seconds" in baseline ? run.seconds / baseline.seconds : undefined,
      cpuRatio: "seconds" in baseline ? run.cpuSeconds / baseline.cpuSeconds : undefined,
    };
  } finally {
    process.off("SIGINT", interrupted);
    captures.remove();
  }
}

async function measureDiagnose(count: number, options: Options): Promise<CheckerFigures["diagnose"]> {
  if (count === 0) return { skipped: "--runs 0" };
  const recording = options.recording ?? inClone("test/golden/hf_prefill_bf16_cpu.safetensors");
  const model = options.model ?? inClone("models/ishmael-7m");
  if (!existsSync(recording) || !existsSync(model)) {
    return {
      skipped: "the golden recording and its model are part of a clone; name others with --recording and --model",
    };
  }
  const runs: MeasuredRun[] = [];
  for (let i = 0; i < count; i++) {
    say(`diagnosing, run ${i + 1} of ${count}`);
    const run = await runMeasured(["diagnose", recording, "--model", model, "--json"]);
    if (!isVerdict(run.output))
      throw new InputError(`${recording}: diagnose gave no verdict, exit status ${run.exitCode}`);
    runs.push(run);
  }
  const seconds = runs.map((run) => run.seconds);
  return {
    recording,
    tensors: tensorCount(recording),
    exitCode: runs[0]!.exitCode,
    seconds,
    medianSeconds: median(seconds),
    medianCpuSeconds: median(runs.map((run) => run.cpuSeconds)),
    peakBytes: Math.max(...runs.map((run) => run.peakBytes)),
  };
}

/** A run that ended early has nothing to be measured. */
function isVerdict(output: string): boolean {
  try {
    return "verdict" in JSON.parse(output);
  } catch {
    return false;
  }
}

function inClone(path: string): string {
  return fileURLToPath(new URL(`../../${path}`, import.meta.url));
}

/** Tensors of a plain recording; a capture directory is not counted. */
function tensorCount(path: string): number {
  if (!path.endsWith(".safetensors")) return 0;
  const file = new SafetensorsFile(path);
  file.close();
  return file.entries.size;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

function checkerText({ machine, compare, diagnose }: CheckerFigures): string {
  const lines = [`${machine.cores} cores (${machine.processor}), Node ${machine.node}`, ""];
  if ("skipped" in compare) lines.push(`compare: not measured: ${compare.skipped}`);
  else {
    const { baseline } = compare;
    lines.push(
      `compare, two ${compare.dtype} captures of ${gigabytes(compare.bytesPerCapture)} each (in ${compare.folder}, ${gigabytes(compare.freeBytes)} were free; deleted)`,
    );
    lines.push(`  ${timesText(compare)}, peak ${megabytes(compare.peakBytes)}`);
    if ("unavailable" in baseline) lines.push(`  NumPy's allclose: not measured: ${baseline.unavailable}`);
    else {
      lines.push(
        `  NumPy ${baseline.numpy} allclose, same files: ${timesText(baseline)}, peak ${megabytes(baseline.peakBytes)}`,
      );
      lines.push(
        `  ${compare.ratio!.toFixed(2)} times the time of allclose (processor time: ${compare.cpuRatio!.toFixed(2)} times)`,
      );
    }
  }
  lines.push("");
  if ("skipped" in diagnose) lines.push(`diagnose: not measured: ${diagnose.skipped}`);
  else {
    const what = diagnose.tensors ? `${diagnose.tensors} tensors` : "a capture directory";
    lines.push(`diagnose, ${what}, ${diagnose.seconds.length} runs, exit status ${diagnose.exitCode}`);
    lines.push(
      `  median ${timesText({ seconds: diagnose.medianSeconds, cpuSeconds: diagnose.medianCpuSeconds })}, peak ${megabytes(diagnose.peakBytes)}`,
    );
  }
  return `${lines.join("\n")}\n`;
}

function timesText({ seconds, cpuSeconds }: { readonly seconds: number; readonly cpuSeconds: number }): string {
  return `${seconds.toFixed(2)} s (${cpuSeconds.toFixed(2)} s of processor time)`;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

function say(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${text}\n`);
}
