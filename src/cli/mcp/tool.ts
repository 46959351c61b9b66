import { z } from "zod";
import type { RunPath } from "../../capture/ranks.js";
import type { HeldRun } from "./held-run.js";

/** Called with what is being done and how far it is, 0 to 1. */
export type Told = (stage: string, done: number) => void;

/** What a tool may use while it answers. */
export interface Workplace {
  readonly told: Told;
  /** The run that was judged last: questions about units of one run come one after the other. */
  readonly held: HeldRun;
}

/** One tool of `faultline mcp`. */
export interface Tool {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  /** Arguments; without `limit`, which every tool has. */
  readonly input: z.ZodObject;
  readonly output: z.ZodObject;
  /** Lists of the answer that are cut first where it gets too long. */
  readonly lessImportant: readonly string[];
  /** Whether it can write, in the `out` it is given. */
  readonly writes: boolean;
  /** @throws InputError with one sentence for the caller. */
  answer(input: never, workplace: Workplace): Promise<object> | object;
}

/** A tool whose arguments are those of its schema. */
export function tool<Input extends z.ZodObject>(
  definition: Omit<Tool, "input" | "answer"> & {
    readonly input: Input;
    answer(input: z.output<Input>, workplace: Workplace): Promise<object> | object;
  },
): Tool {
  return definition;
}

const path = z.string().min(1).max(4096);

/** The recording in question, as every tool that judges one takes it. */
export const runInput = {
  target: z
    .array(path)
    .min(1)
    .max(4096)
    .describe("the suspect run: a capture directory or file; of several ranks each one's directory"),
  model: path.describe("model folder: config.json and model.safetensors (or its shards)"),
  names: path.optional().describe("file that says what the tensors of someone else's dump are (tool names)"),
};

/** A path that a tool reads or writes; relative ones are from where the server was started. */
export const pathInput = path;

/** One path as most functions take it. */
export function runPath(paths: readonly string[]): RunPath {
  return paths.length === 1 ? paths[0]! : [...paths];
}
