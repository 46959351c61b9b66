import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import type { Finding, JudgedUnit, Verdict } from "../diagnose/tell/verdict.js";
import { evidenceWords, extentWords } from "./cause-words.js";
import { commandText } from "./commands.js";
import { findingWords, nearestWords } from "./finding-words.js";
import { recordingWords } from "./recording-words.js";
import { type ReportContext, reportMark } from "./report-format.js";
import { xmlElement, xmlLines } from "./xml-text.js";

/** One test case, and what became of it. */
interface Case {
  readonly suite: string;
  readonly name: string;
  readonly outcome: "passed" | "failure" | "error" | "skipped";
  readonly xml: string;
}

/**
 * A verdict as JUnit XML: a unit is a test case, a layer is a suite. There are failures or errors exactly where the exit
 * code is not 0: a fault fails its units, what is inconclusive is an error, what could not be checked is skipped.
 */
export function junitReport(diagnosis: Diagnosis, { command, version }: ReportContext): string {
  const cases = casesOf(diagnosis);
  const suites = [...new Set(cases.map(({ suite }) => suite))].map((suite) => {
    const own = cases.filter((one) => one.suite === suite);
    const body = own.map(({ xml }) => xml);
    return xmlElement("testsuite", { name: suite, ...totals(own) }, body);
  });
  const { path } = diagnosis.recording;
  const properties = {
    recording: `${path}: ${recordingWords(diagnosis.recording)}`,
    verdict: diagnosis.verdict,
    summary: diagnosis.summary,
    command: commandText(command),
    version,
  };
  const written = Object.entries(properties).map(([name, value]) => xmlElement("property", { name, value }));
  const about = xmlElement("testsuite", { name: "faultline", ...totals([]) }, [xmlElement("properties", {}, written)]);
  const all = xmlElement("testsuites", { name: "faultline", ...totals(cases) }, [about, ...suites]);
  return `<?xml version="1.0" encoding="UTF-8"?>\n<!-- ${reportMark} -->\n${all}\n`;
}

function totals(cases: readonly Case[]): Record<string, number> {
  const count = (outcome: Case["outcome"]) => cases.filter((one) => one.outcome === outcome).length;
  return {
    tests: cases.length,
    failures: count("failure"),
    errors: count("error"),
    skipped: count("skipped"),
    time: 0,
  };
}

function casesOf(diagnosis: Verdict): Case[] {
  const { judged, findings, verdict, summary } = diagnosis;
  const found = new Map<string, Finding[]>();
  for (const finding of findings) found.set(finding.unit, [...(found.get(finding.unit) ?? []), finding]);
  const units = judged.map((unit) => unitCase(diagnosis, unit, found.get(unit.unit) ?? []));
  const names = new Set(judged.map(({ unit }) => unit));
  // Positions, page tables, caches as they are read: what is no unit of its own.
  const others = [...found]
    .filter(([name]) => !names.has(name))
    .map(([name, own]) => oneCase("between the units", name, resultOf(diagnosis, own)));
  const cases = [...units, ...others];
  const isRed = cases.some(({ outcome }) => outcome === "failure" || outcome === "error");
  if (verdict !== "clean" && !isRed) {
    const element = verdict === "inconclusive" ? "error" : "failure";
    cases.push(oneCase("faultline", "verdict", { element, type: verdict, message: summary, lines: [] }));
  }
  return cases;
}

interface Result {
  readonly element: "failure" | "error" | "skipped" | "system-out";
  readonly type?: string;
  readonly message?: string;
  readonly lines: readonly string[];
}

function unitCase(diagnosis: Verdict, { unit, layer, outcome }: JudgedUnit, findings: readonly Finding[]): Case {
  const suite = layer === null ? "outside of layers" : `layer ${layer}`;
  const unchecked: Result = {
    element: "skipped",
    message: "not checked: beyond the range of its types, or it rests on values nobody recorded",
    lines: [],
  };
  const result = findings.length > 0 ? resultOf(diagnosis, findings) : outcome === "unchecked" ? unchecked : undefined;
  return oneCase(suite, unit, result);
}

/** What a verdict says of a unit with findings. */
function resultOf({ causes, verdict }: Verdict, findings: readonly Finding[]): Result {
  const blamed = [...new Set(findings.flatMap(({ cause }) => (cause === null ? [] : [cause])))].map((i) => causes[i]!);
  if (blamed.length > 0) {
    const lines = blamed.flatMap((cause) => [
      `${cause.cause} (${cause.kind}, ${cause.transform}): ${cause.statement}`,
      ...[extentWords(cause.extent)].filter((text) => text !== ""),
      `evidence: ${evidenceWords(cause)}`,
      ...(cause.alternatives.length > 0 ? [`or ${cause.alternatives.join(", ")}: ${cause.separate ?? ""}`] : []),
    ]);
    const type = [...new Set(blamed.flatMap(({ cause, alternatives }) => [cause, ...alternatives]))].join(" or ");
    const message = blamed.map(({ statement }) => statement).join("; ");
    // What makes no run wrong makes no test fail.
    if (blamed.every(({ latent }) => latent)) return { element: "system-out", lines: ["latent:", ...lines] };
    if (blamed.every(({ kind, latent }) => latent || kind === "observer"))
      return { element: "skipped", message, lines };
    return { element: "failure", type, message, lines };
  }
  const lines = findings.flatMap((finding) => [
    findingWords(finding),
    ...(finding.nearest ?? []).map((near) => `near: ${nearestWords(near)}`),
    ...(finding.record?.length ? [`to see further, record ${finding.record.join(", ")}`] : []),
  ]);
  return verdict === "inconclusive"
    ? { element: "error", type: "inconclusive", message: "slightly beyond rounding: too little to name a fault", lines }
    : { element: "failure", type: "unexplained", message: "does not follow from its own inputs", lines };
}

function oneCase(suite: string, name: string, result: Result | undefined): Case {
  if (!result) return { suite, name, outcome: "passed", xml: caseXml(suite, name, []) };
  const { element, type, message, lines } = result;
  const attributes = { ...(message !== undefined && { message }), ...(type !== undefined && { type }) };
  const xml = caseXml(suite, name, [xmlElement(element, attributes, xmlLines(lines))]);
  return { suite, name, outcome: element === "system-out" ? "passed" : element, xml };
}

function caseXml(suite: string, name: string, content: readonly string[]): string {
  return xmlElement("testcase", { name, classname: `faultline.${suite}`, time: 0 }, content);
}
