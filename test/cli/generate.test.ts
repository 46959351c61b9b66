import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { openCapture } from "../../src/capture/reader.js";
import { generateCommand } from "../../src/cli/generate.js";
import { InputError } from "../../src/tensor/errors.js";
import { goldenGenerations, modelDirectory } from "../engine/ishmael.js";
import { expectPublished } from "../published.js";
import { printedBy } from "./printed.js";

/** What the command prints to stdout. */
function run(...args: string[]): Promise<string> {
  const command = generateCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => {} });
  return printedBy(() =>
    command.parseAsync(["--model", modelDirectory, "--path", "reference", ...args], { from: "user" }),
  );
}

afterEach(() => {
  process.exitCode = undefined;
});

describe("faultline generate --path reference", () => {
  it("continues a prompt", async () => {
    expect(await run("--prompt", "Call me Ishmael.", "--max-tokens", "9")).toBe(
      "Call me Ishmael. Some years ago—never mind how long\n",
    );
  });

  it("labels the texts of several prompts", async () => {
    const printed = await run("--prompt", "Call me Ishmael.", "--prompt", "It was the whale", "--max-tokens", "4");
    expect(printed).toBe("[1 of 2]\nCall me Ishmael. Some years ago—\n\n[2 of 2]\nIt was the whale; I might have\n");
  });

  it("prints one JSON object", async () => {
    const printed = await run("--prompt", "Call me Ishmael.", "--max-tokens", "3", "--json");
    expectPublished("generate", printed);
    const [golden] = goldenGenerations();
    expect(JSON.parse(printed)).toEqual({
      path: "reference",
      device: "cpu",
      outputs: [
        {
          prompt: "Call me Ishmael.",
          promptTokenIds: golden!.prompt_ids,
          tokenIds: golden!.greedy_ids.slice(0, 3),
          text: " Some years ago",
          finish: "length",
        },
      ],
    });
  });

  it("repeats a drawn text with its seed", async () => {
    const args = ["--prompt", "It was the whale", "--max-tokens", "3", "--temperature", "1.5", "--top-p", "0.95"];
    const first = await run(...args, "--seed", "3");
    expect(await run(...args, "--seed", "3")).toBe(first);
    expect(await run(...args, "--seed", "4")).not.toBe(first);
  });

  it("records what it computes", async () => {
    const directory = join(mkdtempSync(join(tmpdir(), "faultline-generate-")), "run");
    await run("--prompt", "Call me", "--max-tokens", "3", "--capture", directory, "--capture-dtype", "bfloat16");
    const capture = openCapture(directory);
    expect(capture.steps).toHaveLength(3);
    expect(capture.manifest.runtime).toMatchObject({ device: "cpu", dtype: "bfloat16" });
    expect(capture.manifest.model).toMatchObject({ model_type: "qwen3" });
    expect(new Set(capture.records.map(({ name }) => name))).toContain("model.layers.27.mlp.down_proj");
    capture.close();
    await expect(run("--prompt", "Call me", "--capture", directory)).rejects.toThrow(/new or empty directory/);
  });

  it("stops at the end tokens of generation_config.json, and speaks in the model's chat template", async () => {
    const directory = join(mkdtempSync(join(tmpdir(), "faultline-generate-")), "model");
    cpSync(modelDirectory, directory, { recursive: true });
    const [golden] = goldenGenerations();
    writeFileSync(join(directory, "generation_config.json"), JSON.stringify({ eos_token_id: [golden!.greedy_ids[2]] }));
    const template = "{{ messages[0].content }} me Ishmael.";
    writeFileSync(join(directory, "tokenizer_config.json"), JSON.stringify({ chat_template: template }));
    const printed = await run("--model", directory, "--chat", "--prompt", "Call", "--json");
    const [output] = JSON.parse(printed).outputs;
    expect(output).toMatchObject({ promptTokenIds: golden!.prompt_ids, text: " Some years ago", finish: "end" });
    rmSync(directory, { recursive: true });
  });
});

describe("bad input to faultline generate", () => {
  it.each([
    [["--prompt", ""], /--prompt: expected text/],
    [["--prompt", "a", "--prompt", ""], /--prompt 2: expected text/],
    [["--prompt", "a", "--chat"], /chat_template: expected one for --chat/],
    [["--prompt", "a", "--max-tokens", "5000"], /--max-tokens 5000 are 5001 positions, the model has 2048/],
    [["--prompt", "a", "--model", "nowhere"], /nowhere/],
  ])("is one sentence: %j", async (args, message) => {
    const failure = run(...args);
    await expect(failure).rejects.toThrow(InputError);
    await expect(failure).rejects.toThrow(message);
  });

  it.each([
    [["--prompt", "a", "--temperature", "-1"]],
    [["--prompt", "a", "--temperature", "warm"]],
    [["--prompt", "a", "--top-p", "0"]],
    [["--prompt", "a", "--max-tokens", "0"]],
    [["--prompt", "a", "--max-tokens", "1.5"]],
    [["--prompt", "a", "--seed", ""]],
    [["--prompt", "a", "--page-size", "0"]],
    [["--prompt", "a", "--path", "slow"]],
    [["--prompt", "a", "--capture-dtype", "int8"]],
    [[]],
  ])("is refused with its option: %j", async (args) => {
    await expect(run(...args)).rejects.toMatchObject({ name: "CommanderError" });
  });
});
