import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openInvestigation } from "../../src/diagnose/check/open-investigation.js";
import { diagnose, merge } from "../../src/diagnose/diagnose.js";
import { checkShare } from "../../src/diagnose/threads/part-file.js";
import { unitsOfShare } from "../../src/diagnose/threads/share.js";
import { InputError } from "../../src/tensor/errors.js";

const golden = new URL("../golden", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "faultline-parts-"));
afterAll(() => rmSync(folder, { recursive: true }));

const ranks = (run: string) => [0, 1].map((rank) => join(golden, "ranks", run, `rank${rank}`));
const llama = join(golden, "ranks/models/llama");
const faulty = { target: ranks("faults/row-shards-reversed"), model: llama };

/** Checks `of` shares and returns their files. */
async function share(
  name: string,
  source: { target: string | string[]; model: string },
  of: number,
): Promise<string[]> {
  const paths: string[] = [];
  for (let part = 1; part <= of; part++) {
    const path = join(folder, `${name}-${part}.json`);
    await checkShare(source, { part, of }, path, () => {});
    paths.push(path);
  }
  return paths;
}

let parts: string[];
beforeAll(async () => {
  parts = await share("faulty", faulty, 3);
});

/** A copy of the first part with something changed in it. */
function changed(change: (part: ReturnType<typeof readJson>) => void): string[] {
  const part = readJson(parts[0]!);
  change(part);
  const path = join(folder, "changed.json");
  writeFileSync(path, JSON.stringify(part));
  return [path, ...parts.slice(1)];
}

const readJson = (path: string) =>
  JSON.parse(readFileSync(path, "utf8")) as {
    recording: string;
    part: number;
    of: number;
    checks: { name: string; matched: unknown; excess: unknown; recipe?: { ops: string[][] }; suspects?: unknown }[];
  };

describe("a diagnosis in shares", () => {
  test("merges to the verdict of one process: a fault of several ranks", async () => {
    const one = await diagnose(faulty);
    expect(one.verdict).toBe("fault");
    expect(await merge(parts.toReversed(), { ...faulty, target: faulty.target.toReversed() })).toEqual(one);
  });

  test("merges to the verdict of one process: a broken run with numbers that JSON lacks", async () => {
    const source = { target: join(golden, "../../cases/exclamation-mark"), model: "models/ishmael-7m" };
    const one = await diagnose({ ...source, quick: true });
    const merged = await merge(await share("case", source, 2), { ...source, quick: true });
    expect(JSON.stringify(merged)).toEqual(JSON.stringify(one));
    expect(one.causes.length).toBe(3);
  });

  test("every unit is in one share, more shares than units included", () => {
    const { investigation, close } = openInvestigation(faulty);
    const units = investigation.units().map(({ name }) => name);
    for (const of of [1, 3, units.length + 11]) {
      const shares = Array.from({ length: of }, (_, i) => [...unitsOfShare(investigation, { part: i + 1, of })]);
      expect(shares.flat().toSorted()).toEqual(units.toSorted());
      if (of <= 3) for (const share of shares) expect(share.length).toBeGreaterThan(units.length / of / 2);
    }
    close();
  });
});

describe("parts are refused with one sentence", () => {
  const refused: [what: string, paths: () => string[], says: RegExp][] = [
    ["one missing", () => parts.slice(1), /of: expected all 3 parts, missing 1$/],
    ["one twice", () => [...parts, parts[1]!], /part: expected every part once, .* is part 2 too/],
    ["of another division", () => changed((part) => Object.assign(part, { of: 4 })), /of: expected a part of 4/],
    [
      "a number beyond its division",
      () => changed((part) => Object.assign(part, { part: 9 })),
      /part: expected at most/,
    ],
    ["no part at all", () => [join(llama, "config.json")], /format: /],
    ["no file", () => [join(folder, "nowhere.json")], /there is no file that can be read/],
    ["no JSON", () => [new URL(import.meta.url).pathname], /expected JSON/],
    [
      "of another recording",
      () => changed((part) => Object.assign(part, { recording: "0".repeat(64) })),
      /recording: expected a part of this recording/,
    ],
    [
      "a unit that is none",
      () => changed(({ checks }) => Object.assign(checks[0]!, { name: "model" + ".x" })),
      /expected a unit of this recording/,
    ],
    ["a unit left out", () => changed(({ checks }) => void checks.pop()), /expected every unit in one of the parts/],
    [
      "a recipe that is none",
      () => changed(({ checks }) => checks.find(({ recipe }) => recipe)!.recipe!.ops.push(["model", "no such"])),
      /recipe: expected recipes that the spec has/,
    ],
    [
      "a number that is none",
      () => changed(({ checks }) => Object.assign(checks[0]!, { excess: "much" })),
      /checks\.0\.excess: /,
    ],
    [
      "columns that are none",
      () => changed(({ checks }) => Object.assign(checks[0]!, { suspects: { rows: [0], columns: [99999] } })),
      /suspects\.columns: expected columns below/,
    ],
    [
      "rows that are none",
      () => changed(({ checks }) => Object.assign(checks[0]!, { suspects: { rows: [99999], columns: [0] } })),
      /suspects\.rows: expected recorded rows/,
    ],
  ];

  test.each(refused)("%s", async (_, paths, says) => {
    const merging = merge(paths(), faulty);
    await expect(merging).rejects.toThrow(InputError);
    await expect(merging).rejects.toThrow(says);
  });

  test("of the same prompt, run by somebody else", async () => {
    const other = { target: ranks("faults/sum-skipped"), model: llama };
    await expect(merge(parts, other)).rejects.toThrow(/recording: expected a part of this recording/);
  });

  test("a file that is there already is not overwritten", async () => {
    const before = readFileSync(parts[0]!, "utf8");
    await expect(checkShare(faulty, { part: 1, of: 3 }, parts[0]!, () => {})).rejects.toThrow(/expected a new file/);
    expect(readFileSync(parts[0]!, "utf8")).toBe(before);
  });
});
