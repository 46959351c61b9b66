import { readFileSync } from "node:fs";
import { beforeAll, describe, expect, test } from "vitest";
import { diagnoseRun } from "../../src/cli/diagnose.js";
import type { Verdict } from "../../src/diagnose/tell/verdict.js";
import { demoText } from "../../src/report/demo.js";
import { renderVerdict } from "../../src/report/terminal.js";
import { expectPublished } from "../published.js";

const run = { target: "cases/exclamation-mark", model: "models/ishmael-7m" };

describe("the case of the exclamation mark", () => {
  let verdict: Verdict;
  beforeAll(async () => {
    verdict = await diagnoseRun(run, () => {});
  });

  test("names exactly three causes, and nothing else is accused", async () => {
    expectPublished("diagnose", verdict);
    expect(verdict.verdict).toBe("fault");
    expect(verdict.causes.map(({ cause }) => cause)).toEqual([
      "embedding-scaled",
      "residual-dropped",
      "additive-constant",
    ]);
    expect(verdict.causes.every(({ alternatives }) => alternatives.length === 0)).toBe(true);
    expect(verdict.findings.every(({ cause }) => cause !== null)).toBe(true);
  });

  test("embeddings: the factor is found and recognised", async () => {
    expect(verdict.causes[0]!.parameters).toEqual({ factor: 0.08839, recognised: "1/sqrt(hidden)" });
  });

  test("the residual is seen missing in layers 0 and 2; where nothing can show it, the verdict says so", async () => {
    const cause = verdict.causes[1]!;
    expect(cause.layers).toEqual([0, 2]);
    expect(cause.statement).toContain("residual + attention");
    const hidden = cause.notVisible!.flatMap(({ layers }) => layers).sort((a, b) => a - b);
    expect(hidden).toEqual([1, ...Array.from({ length: 25 }, (_, i) => i + 3)]);
    expect(cause.notVisible!.find(({ layers }) => layers.includes(1))!.why).toContain("drowned");
    expect(cause.notVisible!.find(({ layers }) => layers.includes(27))!.why).toContain("zero");
  });

  test("the bias of layer 1 is recovered from q, k and v", async () => {
    const cause = verdict.causes[2]!;
    expect(cause.layers).toEqual([1]);
    expect(cause.units.map((unit) => unit.split(".").at(-1))).toEqual(["q_proj", "k_proj", "v_proj"]);
    for (const part of ["q_proj", "k_proj", "v_proj"]) {
      const values = Object.values(cause.parameters[`${part}.values`] as Record<string, number>);
      expect(Math.max(...values)).toBeCloseTo(1.7e29, -28);
    }
  });

  test("all captured values are reproduced; without any one cause they are not", async () => {
    const { reproduced, necessity, fromTokens, repair } = verdict.proof;
    expect(reproduced).toEqual({ matched: 479, of: 479 });
    expect(necessity).toHaveLength(3);
    for (const { matched } of necessity) expect(matched).toBeLessThan(479);
    expect(fromTokens).toMatchObject({
      recordedToken: 0,
      reproducedToken: 0,
      text: "!",
      layers: { matched: 29, of: 29 },
    });
    expect(repair!.text).toBe(" precise");
  });

  test("the chain ends in the exclamation mark, and the usual suspects are ruled out", async () => {
    const chain = verdict.chain.join("\n");
    for (const part of ["1.696e+29", "x² overflows float32", "exactly 0", "logits are all 0", 'index 0, which is "!"'])
      expect(chain).toContain(part);
    const suspects = verdict.ruledOut.map(({ suspect }) => suspect).join("\n");
    for (const part of ["K magnitude", "softmax", "scores", "K-norm", "layout"]) expect(suspects).toContain(part);
  });

  test("all four audits are answered with evidence", async () => {
    for (const audit of Object.values(verdict.audits)) {
      expect(audit.pass).toBe(true);
      expect(audit.evidence.length).toBeGreaterThan(20);
    }
  });

  test("README shows what the demo tells of it, line for line", async () => {
    const readme = readFileSync("README.md", "utf8");
    const printed = demoText(verdict, "!", { colors: false, width: 100, run });
    expect(readme).toContain(`\`\`\`\n${printed.trimEnd()}\n\`\`\``);
  });

  test("a verdict of three causes fits one screen; what it leaves out is told with --verbose", async () => {
    const screen = renderVerdict(verdict, { colors: false, run }).trimEnd().split("\n");
    expect(screen.length).toBeLessThanOrEqual(42);
    expect(Math.max(...screen.map((line) => line.length))).toBeLessThanOrEqual(100);
    const all = renderVerdict(verdict, { colors: false, run, verbose: true });
    const kinds = new Set(verdict.notVisible.map(({ cause }) => cause)).size;
    expect(screen.join("\n")).toContain(`${kinds} kinds of fault would not have shown in some unit`);
    for (const { cause } of verdict.notVisible) expect(all).toContain(`- ${cause}: `);
    for (const title of ["From cause to symptom", "Ruled out", "Agreement by kind of unit", "Unchecked"])
      expect(all).toContain(`\n${title}`);
    for (const line of screen.slice(2, 8)) expect(all).toContain(line);
  });
});
