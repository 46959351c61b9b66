import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import MarkdownIt from "markdown-it";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Diagnosis } from "../../src/diagnose/reference/reference-report.js";
import { reportFormats } from "../../src/report/formats.js";
import { renderVerdict } from "../../src/report/terminal.js";
import { visible, visibleJson } from "../../src/report/visible-text.js";
import { SafetensorsFile, writeSafetensors } from "../../src/tensor/safetensors.js";
import { hostileDiagnosis } from "./hostile-diagnosis.js";
import { hostileStrings } from "./hostile-strings.js";
import { diagnosed, elementsOf, sarif, written } from "./read-report.js";

const family = new URL("../golden/families/llama", import.meta.url).pathname;
const folder = mkdtempSync(join(tmpdir(), "faultline-hostile-"));
const extensions = reportFormats.map((format) => format.extensions[0]!);
afterAll(() => {
  rmSync(folder, { recursive: true });
  process.exitCode = 0;
});

/** What acts on a terminal or hides in a page, beyond line ends. */
const unseen = /[^\P{C}\n]|[\p{Zl}\p{Zp}]/u;
let diagnosis: Diagnosis;
let printed: string;
beforeAll(async () => {
  const faulty = new SafetensorsFile(join(family, "faults/gate-up.safetensors"));
  const tensors = [...faulty.entries.values()].map((entry) => ({ ...entry, bytes: faulty.readBytes(entry) }));
  const strange = hostileStrings
    .filter((name) => name.isWellFormed())
    .map((name) => ({ name, dtype: "float32" as const, shape: [1], bytes: new Uint8Array(4) }));
  const path = join(folder, "hostile.safetensors");
  writeSafetensors(path, [...tensors, ...strange]);
  const asked = extensions.flatMap((extension) => ["--report", join(folder, `hostile${extension}`)]);
  printed = (await diagnosed(path, "--model", family, "--quick", "--json", ...asked)).text;
  diagnosis = JSON.parse(printed);
});

describe("a recording whose tensors have hostile names", () => {
  it("is read, and its names are spelled out wherever they are told", () => {
    const names = new Set(diagnosis.unchecked.map(({ value }) => value));
    for (const name of hostileStrings.filter((name) => name.isWellFormed())) expect(names).toContain(name);
    const text = renderVerdict(diagnosis, { colors: false, verbose: true });
    expect(text).toContain("\\u001b[31mred\\u001b[0m");
    for (const shown of [
      printed,
      text,
      ...extensions.map((end) => readFileSync(join(folder, `hostile${end}`), "utf8")),
    ])
      expect(shown).not.toMatch(unseen);
  });
});

describe("50 hostile strings in a verdict", () => {
  const markdown = new MarkdownIt({ html: true, linkify: true });
  const own =
    /^(<!-- faultline report -->|<details><summary>Agreement and rounding by kind of unit<\/summary>|<\/details>|<\/?sub>)\s*$/;

  it("are 50, each another", () => {
    expect(new Set(hostileStrings).size).toBe(50);
    expect(hostileStrings.filter((hostile) => unseen.test(hostile)).length).toBeGreaterThan(25);
  });

  it.each(hostileStrings.map((hostile) => [visible(hostile).slice(0, 60), hostile]))("%s", async (_, hostile) => {
    const spoilt = hostileDiagnosis({ ...diagnosis, unchecked: diagnosis.unchecked.slice(0, 2) }, hostile);
    for (const verbose of [false, true]) {
      const shown = renderVerdict(spoilt, { colors: false, verbose, run: { target: hostile, model: "DIR" } });
      expect(shown).not.toMatch(unseen);
      const first = visible(hostile).split(" ")[0]!;
      expect(shown.split("\n").filter((line) => line.startsWith(first)).length).toBeLessThan(3);
    }
    expect(visibleJson(spoilt)).not.toMatch(unseen);
    expect(JSON.parse(visibleJson(spoilt))).toEqual(JSON.parse(JSON.stringify(spoilt)));

    const xml = await written(spoilt, ".xml");
    expect(xml).not.toMatch(unseen);
    const names = elementsOf(xml).flatMap(({ name, attributes }) => (name === "testcase" ? [attributes.name!] : []));
    expect(names.toSorted()).toEqual(spoilt.judged.map(({ unit }) => visible(unit)).toSorted());

    const log = await written(spoilt, ".sarif");
    expect(log).not.toMatch(unseen);
    expect(JSON.stringify(sarif.parse(JSON.parse(log)))).not.toMatch(unseen);

    const page = await written(spoilt, ".md");
    expect(page).not.toMatch(unseen);
    const tokens = markdown.parse(page, {}).flatMap((token) => [token, ...(token.children ?? [])]);
    const of = (kind: RegExp) => tokens.filter(({ type }) => kind.test(type)).map(({ content }) => content);
    expect(of(/link|image/)).toEqual([]);
    expect(of(/^html/).filter((content) => !own.test(content))).toEqual([]);
    expect(of(/^text$/).filter((content) => /[@#<]|:\/\/|www\./.test(content))).toEqual([]);
    expect(tokens.map(({ content }) => content)).toContain(visible(spoilt.recording.path));
    const headings = tokens.filter(({ type }) => type === "heading_open").length;
    const usual = markdown.parse(await written(diagnosis, ".md"), {}).filter(({ type }) => type === "heading_open");
    expect(headings).toBe(usual.length);
  });
});
