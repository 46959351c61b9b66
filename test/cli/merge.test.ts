import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { diagnoseCommand } from "../../src/cli/diagnose.js";
import { mergeCommand } from "../../src/cli/merge.js";
import { InputError } from "../../src/tensor/errors.js";
import { expectPublished } from "../published.js";

const golden = new URL("../golden/ranks", import.meta.url).pathname;
const target = [0, 1].map((rank) => join(golden, "faults/rank-missing", `rank${rank}`));
const model = ["--model", join(golden, "models/llama")];
const folder = mkdtempSync(join(tmpdir(), "faultline-merge-"));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  process.exitCode = 0;
});

/** What a command prints, and the exit code it sets. */
async function run(command: typeof mergeCommand, ...words: string[]): Promise<{ text: string; code: unknown }> {
  const write = vi.spyOn(process.stdout, "write").mockReturnValue(true);
  const writeError = vi.spyOn(process.stderr, "write").mockReturnValue(true);
  try {
    await command().exitOverride().parseAsync(words, { from: "user" });
    return { text: write.mock.calls.map(([text]) => String(text)).join(""), code: process.exitCode };
  } finally {
    write.mockRestore();
    writeError.mockRestore();
  }
}

describe("faultline diagnose --part and faultline merge", () => {
  it("print and exit as faultline diagnose does", async () => {
    const parts = [1, 2].map((i) => join(folder, `part-${i}.json`));
    for (const [i, out] of parts.entries()) {
      const { text, code } = await run(diagnoseCommand, ...target, ...model, "--part", `${i + 1}/2`, "--out", out);
      expect(text).toMatch(new RegExp(`part-${i + 1}\\.json: share ${i + 1} of 2, \\d+ of 49 units\n`));
      expect(code ?? 0).toBe(0);
    }
    const report = join(folder, "verdict.md");
    const merged = await run(
      mergeCommand,
      ...parts,
      "--target",
      ...target,
      ...model,
      "--quick",
      "--json",
      "--report",
      report,
    );
    expect(readFileSync(report, "utf8")).toMatch(/faultline merge \S+part-1\.json /);
    const one = await run(diagnoseCommand, ...target, ...model, "--quick", "--json");
    expect(merged).toEqual(one);
    expectPublished("diagnose", merged.text);
    for (const part of parts) expectPublished("part", readFileSync(part, "utf8"));
    expect(one.code).toBe(1);
  });

  it.each([
    ["0/2", /--part: expected i\/n/],
    ["3/2", /--part: expected i\/n/],
    ["1", /--part: expected i\/n/],
    ["1/99999", /n at most 4096/],
  ])("refuses --part %s", async (part, says) => {
    const running = run(diagnoseCommand, ...target, ...model, "--part", part, "--out", join(folder, "none.json"));
    await expect(running).rejects.toThrow(InputError);
    await expect(running).rejects.toThrow(says);
  });

  it("refuses a share without a file for it", async () => {
    await expect(run(diagnoseCommand, ...target, ...model, "--part", "1/2")).rejects.toThrow(/--out: expected a file/);
  });
});
