import { join } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { sweepCommand } from "../../src/cli/sweep.js";
import { truncateModel } from "../../src/lab/model.js";
import { InputError } from "../../src/tensor/errors.js";
import { modelDirectory } from "../engine/ishmael.js";
import { temporaryFolder } from "../lab/folder.js";
import { expectPublished } from "../published.js";
import { printedBy } from "./printed.js";

const directory = join(temporaryFolder(), "ishmael-3");
// Three layers of the real model: the explosion, what follows it, and one before.
beforeAll(() => truncateModel(modelDirectory, 3, directory).parameters.close());

/** What the command prints to stdout. */
function run(...args: string[]): Promise<string> {
  const command = sweepCommand()
    .exitOverride()
    .configureOutput({ writeErr: () => {}, writeOut: (text) => process.stdout.write(text) });
  return printedBy(() => command.parseAsync(["--model", directory, "--max-tokens", "1", ...args], { from: "user" }));
}

const software = ["--adapter", process.env.FAULTLINE_ADAPTER ?? "software"];

describe("faultline sweep", { timeout: 400_000 }, () => {
  it("gives the post-mortem's table on the faulty fused path: no scale of K changes the text", async () => {
    const scales = "layers.*.k_scale=1,0.1,0.01,0.0005";
    const printed = await run(...software, "--fault", "exclamation-mark", "--set", scales, "--json");
    expectPublished("sweep", printed);
    const { path, faults, settings } = JSON.parse(printed);
    expect([path, faults]).toEqual(["fused", ["exclamation-mark"]]);
    expect(settings).toHaveLength(4);
    for (const { text, sameText, logits, layers } of settings) {
      expect([text, sameText, logits.changed]).toEqual([{ without: "!", with: "!" }, true, 0]);
      expect(layers[1].largest.with).toBeGreaterThan(1e27);
      expect(layers[2].largest.with).toBe(0);
    }
    expect(settings.map(({ first }: { first: { value: string } | null }) => first?.value)).toEqual([
      undefined,
      ...new Array(3).fill("model.layers.0.self_attn.k_rope"),
    ]);
  });

  it("prints a table, and behind it how large things are", async () => {
    const sets = ["--set", "layers.1.mlp=off", "--set", "layers.*.self_attn.q_proj=reference"];
    const lines = (await run("--path", "reference", ...sets, "--fault", "embedding-scaled")).split("\n");
    expect(lines[0]).toBe(`${directory}, reference path on cpu`);
    expect(lines[1]).toBe("  with embedding-scaled: embeddings are multiplied by 1/sqrt(hidden)");
    const row = (start: string) => lines.find((line) => line.startsWith(start));
    expect(row("layers.1.mlp=off ")).toMatch(/ layers\.1 +\d+ of \d+ +\d\d\.\d % +0 +"/);
    expect(row("layers.*.self_attn.q_proj=reference ")).toMatch(/ none +0 of \d+ +0 % +0 .*, the same/);
    expect(lines).toContainEqual(expect.stringMatching(/^ {2}model\.layers\.1: 100\.0 % of \d+ elements, largest/));
    expect(lines).toContainEqual(expect.stringMatching(/^ {2}stream, largest \|x\| behind layer 1: \S+ → \S+, 2:/));
  });

  it("refuses what it cannot read or set, and lists what it can", async () => {
    const sentence = /layers\.\*\.kscale=1": expected a pattern that something matches, found none/;
    await expect(run("--path", "reference", "--set", "layers.*.kscale=1")).rejects.toThrow(sentence);
    await expect(run("--set", "layers.*=off", "--fault", "nothing")).rejects.toThrow(InputError);
    await expect(run("--path", "reference", "--set", "layers.0=off", "--prompt", "")).rejects.toThrow(/--prompt/);
    const { help } = { help: sweepCommand() };
    let text = "";
    help.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();
    for (const name of ["layers.N.k_scale=FACTOR", "layers.N=off", "fusions.NAME=off", "bias-uninitialised"])
      expect(text).toContain(name);
  });
});
