import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { parseDocument } from "yaml";
import { z } from "zod";
import { diagnoseCommand } from "../../src/cli/diagnose.js";
import { mergeCommand } from "../../src/cli/merge.js";
import { catalogue } from "../../src/diagnose/causes/catalogue.js";
import type { Diagnosis } from "../../src/diagnose/reference/reference-report.js";
import { formatOf, reportFormats } from "../../src/report/formats.js";
import { renderVerdict } from "../../src/report/terminal.js";
import { InputError } from "../../src/tensor/errors.js";
import { diagnosed, elementsOf, sarif, written } from "./read-report.js";

const ranks = new URL("../golden/ranks", import.meta.url).pathname;
const target = [0, 1].map((rank) => join(ranks, "faults/rank-missing", `rank${rank}`));
const model = join(ranks, "models/llama");
const folder = mkdtempSync(join(tmpdir(), "faultline-reports-"));
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  process.exitCode = 0;
});

const extensions = reportFormats.flatMap((format) => format.extensions);
const reports = (name: string) => extensions.map((extension) => join(folder, `${name}${extension}`));

let diagnosis: Diagnosis;
let printed: string;
beforeAll(async () => {
  const asked = reports("first").flatMap((file) => ["--report", file]);
  const { text, code } = await diagnosed(...target, "--model", model, "--quick", "--json", ...asked);
  printed = text;
  diagnosis = JSON.parse(text);
  expect(code).toBe(1);
});

describe("faultline diagnose --report", () => {
  it("writes a file of every kind beside what it prints, and leaves nothing else", () => {
    expect(printed).toBe(`${JSON.stringify(diagnosis, null, 2)}\n`);
    for (const file of reports("first")) {
      const text = readFileSync(file, "utf8");
      expect(text.slice(0, 1000)).toContain("faultline report");
      expect(text.replaceAll("`", "")).toContain(diagnosis.causes[0]!.statement);
      expect(text).toMatch(/faultline diagnose .*rank0 .*rank1 --model .*llama --quick/);
    }
    expect(readdirSync(folder).filter((name) => name.endsWith(".part"))).toEqual([]);
  });

  it("is printed on one screen", () => {
    const lines = renderVerdict(diagnosis, { colors: false, run: { target, model } }).split("\n");
    expect(lines.length).toBeLessThan(40);
    const commands = lines.filter((line) => line.startsWith("          faultline repro"));
    expect(commands).toHaveLength(1);
    expect(Math.max(...lines.filter((line) => !commands.includes(line)).map((line) => line.length))).toBeLessThan(101);
    expect(lines.join("\n")).toMatch(/FAULT {2}1 cause: .*\n\n1 {2}rank-missing .*evidence .*\n\nProof .*Next /s);
  });

  it("is printed on one screen, whatever the verdict", () => {
    const { causes, findings, proof } = diagnosis;
    const [cause, finding] = [causes[0]!, findings[0]!];
    const near = { cause: cause.cause, site: "a.b", statement: "it", equal: 0.61, equalWithout: 0.4 };
    const open = { ...finding, cause: null, nearest: [near], record: ["model.layers.0.mlp"] };
    const some = <T>(n: number, one: T) => Array.from({ length: n }, () => one);
    const long = {
      ...cause,
      statement: "word ".repeat(300),
      alternatives: ["norm-missing" as const],
      separate: "more",
    };
    const necessity = some(12, null).map((_, without) => ({ without, matched: 40 + without }));
    const told: [Partial<Diagnosis>, RegExp][] = [
      [{ causes: some(12, long), proof: { ...proof, necessity } }, /9 more causes.* 40 to 51\n.*\nNext .*to tell /s],
      [{ verdict: "ambiguous", causes: [long] }, /AMBIGUOUS.*…\n.* {3}or {7}norm-missing\n.*\nNext .*: more\n/s],
      [
        { causes: [], findings: some(30, open) },
        /near: .* 61\.00%.*and 27 more.*\nNext .*, record model\.layers\.0\.mlp\n/s,
      ],
      [{ verdict: "inconclusive", causes: [], findings: [] }, /INCONCLUSIVE.*\nNext {6}record values/s],
      [{ verdict: "clean", causes: [], findings: [] }, /^(?!.*\nNext).*CLEAN/s],
    ];
    for (const [changes, says] of told) {
      const spec = { ...proof, necessity: changes.proof?.necessity ?? [] };
      const text = renderVerdict(
        { ...diagnosis, ...changes, proof: spec },
        { colors: false, run: { target: "run", model } },
      );
      expect(text).toMatch(says);
      expect(text.split("\n").length).toBeLessThan(48);
    }
  });

  it.each([
    ["out.txt", /expected a file name that ends in \.md or \.markdown \(markdown\), \.xml \(junit\), \.sarif/],
    ["no/such/out.md", /expected a file in a folder that exists/],
    ["folder.md", /expected a file, found a folder/],
    ["notes.md", /found another file there; nothing is overwritten/],
    ["linked.md", /expected another file than those that are read/],
  ])("refuses %s, before the work", async (name, says) => {
    if (!existsSync(join(folder, "folder.md"))) {
      symlinkSync(folder, join(folder, "folder.md"));
      symlinkSync(join(model, "config.json"), join(folder, "linked.md"));
      writeFileSync(join(folder, "notes.md"), "mine");
    }
    const running = diagnosed("nothing-here", "--model", model, "--report", join(folder, name));
    await expect(running).rejects.toThrow(InputError);
    await expect(running).rejects.toThrow(says);
    expect(readFileSync(join(folder, "notes.md"), "utf8")).toBe("mine");
  });

  it("refuses one file for two reports, and a report of a share", async () => {
    const file = join(folder, "twice.md");
    await expect(diagnosed(...target, "--model", model, "--report", file, "--report", file)).rejects.toThrow(/twice/);
    const share = ["--part", "1/2", "--out", join(folder, "part.json"), "--report", file];
    await expect(diagnosed(...target, "--model", model, ...share)).rejects.toThrow(/--report: expected a whole/);
  });
});

describe("JUnit XML", () => {
  const outcomes = async (changed: Diagnosis) => {
    const elements = elementsOf(await written(changed, ".xml"));
    const of = (name: string) => elements.filter((element) => element.name === name);
    return { of, all: of("testsuites")[0]!.attributes };
  };

  it("has a case for each unit, in a suite for its layer, and fails those that a cause explains", async () => {
    const { of, all } = await outcomes(diagnosis);
    const names = of("testcase").map(({ attributes }) => attributes.name);
    expect(names.toSorted()).toEqual(diagnosis.judged.map(({ unit }) => unit).toSorted());
    const wrong = new Set(diagnosis.findings.map(({ unit }) => unit)).size;
    expect(all).toMatchObject({ tests: "49", failures: String(wrong), errors: "0", skipped: "0" });
    expect(of("failure")[0]!.attributes.type).toBe("rank-missing");
    const layers = new Set(diagnosis.judged.map(({ layer }) => layer));
    expect(of("testsuite")).toHaveLength(layers.size + 1);
  });

  it("is red exactly where the exit code is not 0", async () => {
    const findings = diagnosis.findings.map((finding) => ({ ...finding, cause: null }));
    const unchecked = diagnosis.judged.map((unit) => ({ ...unit, outcome: "unchecked" as const }));
    const latent = diagnosis.causes.map((cause) => ({ ...cause, latent: true }));
    const observed = diagnosis.causes.map((cause) => ({ ...cause, kind: "observer" as const }));
    const told: [Partial<Diagnosis>, object][] = [
      [
        { verdict: "fault", causes: [], findings },
        { failures: "1", errors: "0" },
      ],
      [
        { verdict: "inconclusive", causes: [], findings },
        { failures: "0", errors: "1" },
      ],
      [
        { verdict: "inconclusive", causes: [], findings: [], judged: unchecked },
        { errors: "1", skipped: "49" },
      ],
      [
        { verdict: "clean", causes: latent },
        { failures: "0", errors: "0", skipped: "0" },
      ],
      [
        { verdict: "clean", causes: observed },
        { failures: "0", errors: "0", skipped: "1" },
      ],
      [
        { verdict: "fault", findings: [] },
        { failures: "1", errors: "0" },
      ],
    ];
    for (const [changes, counts] of told) {
      const { all } = await outcomes({ ...diagnosis, ...changes });
      expect(all).toMatchObject(counts);
    }
  });
});

describe("SARIF", () => {
  it("has a result for each cause at its module, and its rule from the catalogue", async () => {
    const { tool, results, invocations } = sarif.parse(JSON.parse(await written(diagnosis, ".sarif"))).runs[0];
    const { cause, units } = diagnosis.causes[0]!;
    expect(tool.driver.rules[results[0]!.ruleIndex]).toMatchObject({
      id: cause,
      shortDescription: { text: catalogue[cause].legend },
    });
    const help = tool.driver.rules[0]!.help.text;
    const page = readFileSync(new URL("../../docs/causes.md", import.meta.url), "utf8");
    expect(page).toContain(`### \`${cause}\`\n\n${help}`);
    expect(results[0]!.level).toBe("error");
    expect(results[0]!.locations[0].logicalLocations![0].fullyQualifiedName).toBe(units[0]);
    expect(invocations[0].exitCode).toBe(1);
  });

  it("has results for what nothing explains, warnings where two causes explain, notes where nothing is wrong", async () => {
    const levels = async (changes: Partial<Diagnosis>) =>
      sarif
        .parse(JSON.parse(await written({ ...diagnosis, ...changes }, ".sarif.json")))
        .runs[0].results.map(({ ruleId, level }) => `${ruleId} ${level}`);
    const findings = diagnosis.findings.map((finding) => ({ ...finding, cause: null }));
    const or = diagnosis.causes.map((cause) => ({ ...cause, alternatives: ["norm-missing" as const] }));
    const latent = diagnosis.causes.map((cause) => ({ ...cause, latent: true }));
    expect(await levels({ causes: [], findings })).toEqual(["unexplained error"]);
    expect(await levels({ verdict: "inconclusive", causes: [], findings })).toEqual(["inconclusive warning"]);
    expect(await levels({ verdict: "inconclusive", causes: [], findings: [] })).toEqual(["inconclusive warning"]);
    expect(await levels({ verdict: "ambiguous", causes: or })).toEqual(["rank-missing warning"]);
    expect(await levels({ verdict: "clean", causes: latent })).toEqual(["rank-missing note"]);
    expect(await levels({ verdict: "clean", causes: [], findings: [] })).toEqual([]);
  });
});

const root = new URL("../..", import.meta.url).pathname;
const workflow = z.looseObject({
  on: z.string(),
  permissions: z.record(z.string(), z.enum(["read", "write"])),
  jobs: z.record(
    z.string(),
    z.looseObject({
      steps: z.array(
        z.union([
          z.looseObject({ uses: z.string().regex(/^[\w-]+\/[\w./-]+@v\d+$/) }),
          z.looseObject({ run: z.string(), name: z.string() }),
        ]),
      ),
    }),
  ),
});

it("examples/ci is a workflow whose commands, options, files and reports exist", () => {
  const document = parseDocument(readFileSync(join(root, "examples/ci/faultline.yml"), "utf8"), { strict: true });
  expect([...document.errors, ...document.warnings]).toEqual([]);
  const commands = new Map([diagnoseCommand(), mergeCommand()].map((command) => [command.name(), command]));
  const { jobs } = workflow.parse(document.toJS());
  const steps = Object.values(jobs).flatMap((job) => job.steps);
  const lines = steps.flatMap((step) => ("run" in step ? String(step.run).split("\n") : []));
  const reports = new Set<string>();
  let ours = 0;
  for (const line of lines) {
    const script = /^python (\S+)/.exec(line)?.[1];
    if (script) expect(existsSync(join(root, script)), script).toBe(true);
    const called = /\bfaultline (\w+) ([^|&;>]*)/.exec(line.replace(/^(npm|pip) install.*/, ""));
    if (!called) continue;
    ours++;
    const command = commands.get(called[1]!);
    expect(command, line).toBeDefined();
    for (const [, option, value] of called[2]!.matchAll(/(--[\w-]+)(?: (\S+))?/g)) {
      expect(command!.options.map(({ long }) => long)).toContain(option);
      if (option === "--report") reports.add(value!);
    }
  }
  expect(ours).toBe(1);
  expect([...reports].map((file) => formatOf(file).id).toSorted()).toEqual(["junit", "markdown", "sarif"]);
  // What later steps read is what was written.
  const text = JSON.stringify(steps.filter((step) => !("run" in step) || !String(step.run).includes("--report")));
  for (const [file] of text.matchAll(/faultline\.(?:md|sarif|xml|html)/g)) expect(reports).toContain(file);
});
