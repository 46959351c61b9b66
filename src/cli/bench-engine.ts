import Table from "cli-table3";
import { Command, Option } from "commander";
import type { BenchmarkResult, KernelTime, PathSpeed } from "../engine/serve/benchmark.js";
import type { AttentionName } from "../engine/serve/open-backend.js";
import { batchSteps } from "../engine/serve/sequences-batch.js";
import { publishedShapes } from "../spec/families/shapes.js";
import { type ModelConfig, parseModelConfig } from "../spec/models/config.js";
import { readModelConfig } from "../spec/models/config-file.js";
import { Checkpoint } from "../tensor/checkpoint.js";
import { InputError } from "../tensor/errors.js";
import { attentionOption } from "./attention-option.js";
import { wholeNumber } from "./whole-number.js";

const help = `
Weights are bfloat16 as in the checkpoint, or random; the KV cache is bfloat16, the batch one sequence
unless --batches asks for more, whose keys are zeros. Every number is
a median over the runs after the warm-up: an idle GPU takes hundreds of tokens to reach its clocks. GPU times per kernel
come from timestamps around a pass each, which adds a few microseconds to every one.

Examples:
  faultline bench engine --random qwen3-0.6b
  faultline bench engine --random qwen3-0.6b --adapter cuda --batches 1 8 64 --contexts 512 4096 32768
  faultline bench engine --model models/ishmael-7m --json
  faultline bench engine --random tiny --adapter software --prompt-tokens 8 --new-tokens 4 --prefill 20 --runs 1 --warm-ups 0
`;

interface Options {
  readonly model?: string;
  readonly random?: keyof typeof publishedShapes;
  readonly promptTokens: number;
  readonly newTokens: number;
  readonly prefill: number;
  readonly runs: number;
  readonly warmUps: number;
  readonly batches?: readonly number[];
  readonly contexts?: readonly number[];
  readonly adapter?: string;
  readonly attention: AttentionName;
  readonly json?: true;
}

/** `faultline bench engine` */
export function benchEngineCommand(): Command {
  return new Command("engine")
    .description("tokens per second of both GPU paths, GPU time per kernel, and what each fusion is worth")
    .option("--model <dir>", "Hugging Face model folder")
    .addOption(
      new Option("--random <shape>", "random bfloat16 weights of this model's shape")
        .choices(Object.keys(publishedShapes))
        .conflicts("model"),
    )
    .option("--prompt-tokens <n>", "tokens of the prompt before decoding", wholeNumber(1, 2 ** 24), 128)
    .option("--new-tokens <n>", "tokens decoded", wholeNumber(1, 2 ** 24), 256)
    .option("--prefill <n>", "tokens of the prefill measurement", wholeNumber(1, 2 ** 24), 2048)
    .option("--runs <n>", "measurements per number", wholeNumber(1, 2 ** 24), 5)
    .option("--warm-ups <n>", "runs before the first measurement", wholeNumber(0, 2 ** 24), 4)
    .option("--batches <n...>", "also decode of batches of so many sequences", listed)
    .option("--contexts <n...>", "keys of every sequence of such batches (default: 512)", listed)
    .option("--adapter <name>", 'part of a GPU\'s name, "software", or "cuda"')
    .addOption(attentionOption())
    .option("--json", "print the figures as JSON (docs/performance.md)")
    .addHelpText("after", help)
    .action(benchEngine);
}

async function benchEngine(options: Options): Promise<void> {
  const config = readConfig(options);
  const { batches = [], contexts = [512] } = options;
  const batched = batches.length > 0 ? Math.max(...contexts) + batchSteps : 0;
  const longest = Math.max(options.promptTokens + options.newTokens, options.prefill, batched);
  if (longest > config.maxPositions) {
    throw new InputError(`${longest} tokens were asked for, the model has ${config.maxPositions} positions`);
  }
  // The GPU code is loaded only here, so that the other commands run without its packages.
  const [{ openBackend }, { loadWeights, randomWeights }, { benchmark }] = await Promise.all([
    import("../engine/serve/open-backend.js"),
    import("../engine/device/weights.js"),
    import("../engine/serve/benchmark.js"),
  ]);
  const gpu = await openBackend(options.adapter, options.attention).catch((error: Error) => {
    throw new InputError(`bench engine: ${error.message}`);
  });
  const checkpoint = options.model === undefined ? undefined : new Checkpoint(options.model);
  try {
    say(`weights onto ${gpu.name}`);
    const weights = checkpoint
      ? await loadWeights(gpu, config, checkpoint)
      : await randomWeights(gpu, config, "bfloat16");
    const { promptTokens, newTokens, prefill: prefillTokens, runs, warmUps } = options;
    const result = await benchmark(gpu, config, weights, {
      promptTokens,
      newTokens,
      prefillTokens,
      repeats: runs,
      warmUps,
      batches,
      contexts,
      onProgress: say,
    });
    weights.destroy();
    process.stdout.write(options.json ? `${JSON.stringify(result, null, 2)}\n` : resultText(result, options));
  } finally {
    checkpoint?.close();
    gpu.destroy();
  }
}

function readConfig({ model, random }: Options): ModelConfig {
  if (model !== undefined) return readModelConfig(model).config;
  if (random !== undefined) return parseModelConfig(publishedShapes[random], random);
  throw new InputError("bench engine: expected --model <dir> or --random <shape>");
}

function resultText(result: BenchmarkResult, options: Options): string {
  const { standard, fused, floorTokensPerSecond: floor } = result;
  const paths = [standard, fused];
  const row = (name: string, cell: (path: PathSpeed) => string) => [name, ...paths.map(cell)];
  const share = (path: PathSpeed) => (floor === null ? "unknown" : `${percent(path.decodeTokensPerSecond / floor)}`);
  const sections = [
    `${result.gpu}: ${options.model ?? `random ${options.random}`}, ${(result.weightBytes / 1e9).toFixed(2)} GB of weights read per token`,
    floor === null
      ? "The bandwidth floor is unknown: this GPU has no timestamps."
      : `Bandwidth floor: ${whole(floor)} tokens/s at the ${(result.readBandwidth! / 1e12).toPrecision(3)} TB/s of a kernel that only reads.`,
    table(
      ["", "standard", "fused"],
      [
        row(`decode, ${options.newTokens} tokens after ${options.promptTokens}: tokens/s`, (path) =>
          whole(path.decodeTokensPerSecond),
        ),
        row("  every run", (path) => path.decodeRuns.map(whole).join(" ")),
        row("  share of the bandwidth floor", share),
        row(`prefill of ${options.prefill}: tokens/s`, (path) => whole(path.prefillTokensPerSecond!)),
        row(
          `time to first token, prompt of ${options.promptTokens}`,
          (path) => `${path.timeToFirstToken.toFixed(1)} ms`,
        ),
        row("dispatches per token", (path) => whole(path.dispatchesPerToken)),
      ],
    ),
    table(
      ["fused without", "decode, tokens/s", "of all fusions", "dispatches per token"],
      result.without.map(({ fusion, speed }) => [
        fusion,
        whole(speed.decodeTokensPerSecond),
        percent(speed.decodeTokensPerSecond / fused.decodeTokensPerSecond),
        whole(speed.dispatchesPerToken),
      ]),
    ),
    ...paths.map(batchText),
    ...paths.flatMap((path) => [
      kernelText(`GPU time of one decode step, ${path.name}`, path.decodeKernels),
      kernelText(`GPU time of one prefill of ${options.prefill}, ${path.name}`, path.prefillKernels),
    ]),
  ];
  return `${sections.filter((text) => text !== "").join("\n\n")}\n`;
}

function kernelText(title: string, kernels: readonly KernelTime[]): string {
  if (kernels.length === 0) return "";
  const total = kernels.reduce((sum, { microseconds }) => sum + microseconds, 0);
  const rows = kernels.map(({ label, count, microseconds }) => [
    label,
    whole(count),
    (microseconds / count).toFixed(1),
    percent(microseconds / total),
  ]);
  return `${title}: ${whole(total)} µs\n${table(["kernel", "count", "µs each", "share"], rows)}`;
}

function batchText({ name, batches }: PathSpeed): string {
  if (batches.length === 0) return "";
  const rows = batches.map(({ sequences, context, tokensPerSecond, floorTokensPerSecond: floor, runs, cacheBytes }) => [
    whole(sequences),
    whole(context),
    tokensPerSecond === null ? `not made: ${(cacheBytes / 1e9).toFixed(0)} GB of cache` : whole(tokensPerSecond),
    tokensPerSecond === null ? "" : `${whole(Math.min(...runs))} to ${whole(Math.max(...runs))}`,
    floor === null || tokensPerSecond === null ? "" : percent(tokensPerSecond / floor),
  ]);
  const head = ["sequences", "keys of each", "tokens/s of all", "runs", "of reading weights and cache"];
  return `Decode of batches, ${name}\n${table(head, rows)}`;
}

/** One more number of an option that takes several. */
function listed(text: string, before: readonly number[] = []): readonly number[] {
  return [...before, wholeNumber(1, 2 ** 24)(text)];
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const made = new Table({
    head: [...head],
    style: { head: [], border: [] },
    colAligns: head.map((_, i) => (i === 0 ? "left" : "right")),
  });
  made.push(...rows.map((row) => [...row]));
  return made.toString();
}

function whole(value: number): string {
  return String(Math.round(value));
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)}%`;
}

function say(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${text}\n`);
}
