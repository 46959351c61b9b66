import { join } from "node:path";
import { Command, InvalidArgumentError, Option } from "commander";
import { Generation } from "../engine/serve/generation.js";
import { type AttentionName, type OpenedPath, openPath, type PathName, pathNames } from "../engine/serve/open-path.js";
import { Recording } from "../engine/serve/recording.js";
import type { Sequence } from "../engine/serve/scheduler.js";
import { readChatTemplate, readEndTokens, readTokenizer } from "../engine/text/model-folder.js";
import { TextStream, type Tokenizer } from "../engine/text/tokenizer.js";
import { ModelParameters } from "../spec/formats/model-parameters.js";
import type { ModelConfig } from "../spec/models/config.js";
import { readModelConfig } from "../spec/models/config-file.js";
import type { DType } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import { attentionOption } from "./attention-option.js";
import type { Generated } from "./generate-schema.js";
import { outputColors } from "./style.js";
import { wholeNumber } from "./whole-number.js";

interface GenerateOptions {
  readonly model: string;
  readonly prompt: string[];
  readonly path: PathName;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topP: number;
  readonly seed: number;
  readonly chat?: true;
  readonly capture?: string;
  readonly captureDtype: DType;
  readonly cacheDtype?: DType;
  readonly pageSize: number;
  readonly adapter?: string;
  readonly attention: AttentionName;
  readonly json?: true;
}

/** `faultline generate`: text from a model, on any path, recorded if asked. */
export function generateCommand(): Command {
  return new Command("generate")
    .description("Generate text with a model folder, on the CPU or on a GPU, and record what was computed if asked.")
    .requiredOption("--model <dir>", "Hugging Face model folder: config.json, model.safetensors, tokenizer.json")
    .requiredOption("--prompt <text>", "text to continue; several prompts run as one batch", collect)
    .addOption(
      new Option(
        "--path <name>",
        "reference: the spec in float64 on the CPU; standard: a GPU kernel per op; fused: few",
      )
        .choices(pathNames)
        .default("fused"),
    )
    .option("--max-tokens <n>", "most tokens to generate per prompt", wholeNumber(1, 2 ** 24), 64)
    .option("--temperature <t>", "0 takes the most likely token", numberWithin(0, 1000), 0)
    .option("--top-p <p>", "draw among the most likely tokens of this total probability", numberAbove(0, 1), 1)
    .option("--seed <n>", "of the draws; the same seed gives the same text", wholeNumber(0, 2 ** 32 - 1), 0)
    .option("--chat", "put each prompt into the model's chat template, as a user's message")
    .option("--capture <dir>", "record every value of every step in a new folder, for faultline diagnose and compare")
    .addOption(
      new Option("--capture-dtype <dtype>", "what the reference path stores between ops, and so records")
        .choices(["float32", "bfloat16", "float16"])
        .default("float32"),
    )
    .addOption(
      new Option(
        "--cache-dtype <dtype>",
        "what the GPU paths store keys and values in (default: float32; bfloat16 with --attention flashinfer)",
      ).choices(["float32", "bfloat16", "float16"]),
    )
    .option("--page-size <n>", "tokens per page of the KV cache", wholeNumber(1, 4096), 16)
    .option("--adapter <name>", 'part of a GPU\'s name, "software", or "cuda"')
    .addOption(attentionOption())
    .option("--json", "print one JSON object instead of text")
    .addHelpText(
      "after",
      `
Examples:
  faultline generate --model models/ishmael-7m --prompt "Call me Ishmael."
  faultline generate --model models/ishmael-7m --prompt "It was the whale" --path reference --capture run1`,
    )
    .action(run);
}

interface Prompt {
  readonly text: string;
  readonly tokenIds: readonly number[];
}

async function run(options: GenerateOptions): Promise<void> {
  const { config, json: model } = readModelConfig(options.model);
  const checkpoint = new ModelParameters(options.model);
  let opened: OpenedPath | undefined;
  try {
    const tokenizer = readTokenizer(options.model);
    const prompts = encodePrompts(options, tokenizer, config);
    const { pageSize, captureDtype: dtype, cacheDtype, adapter, attention } = options;
    const tokens = prompts.map(({ tokenIds }) => tokenIds.length + options.maxTokens - 1);
    const pageCount = tokens.reduce((sum, count) => sum + Math.ceil(count / pageSize), 0) + 1;
    const cache = { pageCount, pageSize, cacheDtype };
    opened = await openPath(options.path, { config, checkpoint, ...cache, dtype, adapter, attention });
    const { path, device } = opened;
    const runtime = { name: `faultline ${path.name}`, device, dtype: path.name === "reference" ? dtype : "float32" };
    const recorder = options.capture === undefined ? undefined : new Recording(options.capture, { model, runtime });
    const output = options.json ? undefined : new LiveText(tokenizer, prompts, options.chat === true);
    const generation = new Generation(path, {
      recorder,
      onToken: (sequence, token) => output?.token(sequence, token),
    });
    const sampling = { temperature: options.temperature, topP: options.topP, seed: options.seed };
    const endTokens = readEndTokens(options.model, config);
    const sequences = prompts.map(({ tokenIds }) => {
      return generation.add({ tokenIds, maxTokens: options.maxTokens, sampling, endTokens });
    });
    await generation.run();
    output?.end();
    if (options.json)
      process.stdout.write(`${JSON.stringify(summary(path.name, device, prompts, sequences, tokenizer))}\n`);
    reportFailures(sequences);
  } finally {
    opened?.close();
    checkpoint.close();
  }
}

/** @throws InputError when a prompt has no tokens, or more than the model has positions or words for. */
function encodePrompts(options: GenerateOptions, tokenizer: Tokenizer, config: ModelConfig): Prompt[] {
  const template = options.chat ? readChatTemplate(options.model) : undefined;
  return options.prompt.map((text, i) => {
    const tokenIds = template
      ? tokenizer.encode(template.render([{ role: "user", content: text }]), false)
      : tokenizer.encode(text);
    const name = options.prompt.length > 1 ? `--prompt ${i + 1}` : "--prompt";
    if (tokenIds.length === 0) throw new InputError(`${name}: expected text that makes at least one token`);
    const total = tokenIds.length + options.maxTokens;
    if (total > config.maxPositions) {
      throw new InputError(
        `${name}: ${tokenIds.length} tokens and --max-tokens ${options.maxTokens} are ${total} positions, the model has ${config.maxPositions}`,
      );
    }
    const unknown = tokenIds.find((token) => token >= config.vocabularySize);
    if (unknown !== undefined) {
      const path = join(options.model, "tokenizer.json");
      throw new InputError(`${path}: gives token ${unknown}, config.json has a vocabulary of ${config.vocabularySize}`);
    }
    return { text, tokenIds };
  });
}

/** Text as it comes. Of several prompts the first unfinished one is live; the others wait for their turn. */
class LiveText {
  readonly #streams: TextStream[];
  readonly #waiting: string[];
  readonly #ended = new Set<number>();
  #live = 0;

  constructor(
    tokenizer: Tokenizer,
    readonly prompts: readonly Prompt[],
    chat: boolean,
  ) {
    this.#streams = prompts.map(({ tokenIds }) => new TextStream(tokenizer, tokenIds));
    this.#waiting = prompts.map(({ text }) => (chat ? "" : text));
    this.#begin();
  }

  token({ id, finish }: Sequence, token: number): void {
    this.#waiting[id] += this.#streams[id]!.push(token);
    if (finish) this.#waiting[id] += `${this.#streams[id]!.end()}\n`;
    if (finish) this.#ended.add(id);
    if (id === this.#live) this.#flush();
    while (this.#ended.has(this.#live) && this.#live + 1 < this.prompts.length) this.#next();
  }

  /** Prints what is left of sequences that ended without a last token. */
  end(): void {
    for (; ; this.#next()) {
      if (!this.#ended.has(this.#live)) process.stdout.write(`${this.#streams[this.#live]!.end()}\n`);
      if (this.#live + 1 === this.prompts.length) return;
    }
  }

  #next(): void {
    this.#live++;
    this.#begin();
  }

  #begin(): void {
    const { length } = this.prompts;
    if (length > 1)
      process.stdout.write(`${this.#live > 0 ? "\n" : ""}${outputColors().dim(`[${this.#live + 1} of ${length}]`)}\n`);
    this.#flush();
  }

  #flush(): void {
    process.stdout.write(this.#waiting[this.#live]!);
    this.#waiting[this.#live] = "";
  }
}

function summary(
  path: string,
  device: string,
  prompts: readonly Prompt[],
  sequences: readonly Sequence[],
  tokenizer: Tokenizer,
): Generated {
  const outputs = sequences.map(({ generated, finish }, i) => ({
    prompt: prompts[i]!.text,
    promptTokenIds: prompts[i]!.tokenIds,
    tokenIds: generated,
    text: continuation(tokenizer, prompts[i]!.tokenIds, generated),
    ...(finish && { finish }),
  }));
  return { path, device, outputs };
}

function continuation(tokenizer: Tokenizer, prompt: readonly number[], generated: readonly number[]): string {
  const stream = new TextStream(tokenizer, prompt);
  return generated.map((token) => stream.push(token)).join("") + stream.end();
}

/** NaN or infinity in the logits means no next token: the text ends there, and the exit status is 1. */
function reportFailures(sequences: readonly Sequence[]): void {
  for (const { id, finish, tokens } of sequences) {
    if (finish !== "nonfinite") continue;
    process.stderr.write(
      `prompt ${id + 1}: the logits at position ${tokens.length - 1} are not finite; no token can be chosen\n`,
    );
    process.exitCode = 1;
  }
}

function collect(value: string, all: string[] | undefined): string[] {
  return [...(all ?? []), value];
}

function numberWithin(least: number, most: number) {
  return (text: string): number => {
    const value = Number(text);
    if (text.trim() !== "" && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`expected a number from ${least} to ${most}`);
  };
}

function numberAbove(bound: number, most: number) {
  return (text: string): number => {
    const value = Number(text);
    if (text.trim() !== "" && value > bound && value <= most) return value;
    throw new InvalidArgumentError(`expected a number above ${bound}, at most ${most}`);
  };
}
