import { relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { catalogue } from "../diagnose/causes/catalogue.js";
import { transforms } from "../diagnose/causes/transforms.js";
import type { Cause } from "../diagnose/explain/cause.js";
import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import type { Finding, Verdict } from "../diagnose/tell/verdict.js";
import { evidenceWords, extentWords } from "./cause-words.js";
import { causeEntryText } from "./causes-page.js";
import { commandText } from "./commands.js";
import { findingWords } from "./finding-words.js";
import { type ReportContext, reportMark } from "./report-format.js";
import { visible, visibleJson } from "./visible-text.js";

const schema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
const exitCodes = { clean: 0, fault: 1, ambiguous: 1, inconclusive: 3 } as const;

/** A result before it knows its rule's place. */
interface Result {
  readonly rule: Rule;
  readonly level: "error" | "warning" | "note";
  readonly text: string;
  /** The first is where it is, the others are where it is seen too. */
  readonly units: readonly string[];
}

interface Rule {
  readonly id: string;
  readonly short: string;
  readonly full: string;
  readonly help: string;
}

/** A verdict as SARIF 2.1.0: a rule is a cause of the catalogue, a result is a cause found, its places are modules. */
export function sarifReport(diagnosis: Diagnosis, context: ReportContext): string {
  const { verdict, causes, findings, summary, recording } = diagnosis;
  const results = [
    ...causes.map((cause) => causeResult(cause)),
    ...findings.filter(({ cause }) => cause === null).map((finding) => openResult(finding, verdict)),
  ];
  if (results.length === 0 && verdict !== "clean")
    results.push({ rule: openRule(verdict), level: "warning", text: summary, units: [] });
  const rules = [...new Map(results.map(({ rule }) => [rule.id, rule])).values()];
  const place = artifactUri([context.run.target].flat()[0]!);
  return `${visibleJson({
    $schema: schema,
    version: "2.1.0",
    properties: { kind: reportMark },
    runs: [
      {
        tool: { driver: { name: "faultline", version: context.version, rules: rules.map(ruleObject) } },
        automationDetails: { id: `faultline/${visible(recording.path)}/` },
        invocations: [
          {
            commandLine: commandText(context.command),
            executionSuccessful: true,
            exitCode: exitCodes[verdict],
          },
        ],
        results: results.map((result) => resultObject(result, rules, place)),
        properties: { verdict, summary: visible(summary) },
      },
    ],
  })}\n`;
}

function causeResult(cause: Cause): Result {
  const { statement, units, alternatives, separate, latent, kind } = cause;
  const extent = extentWords(cause.extent);
  const sentences = [
    `${statement}.`,
    `Evidence: ${evidenceWords(cause)}.`,
    ...(extent === "" ? [] : [`Extent: ${extent}.`]),
    ...(alternatives.length > 0 ? [`Or ${alternatives.join(", ")}; to tell: ${separate ?? "record more"}.`] : []),
  ];
  const level = latent || kind === "observer" ? "note" : alternatives.length > 0 ? "warning" : "error";
  return { rule: causeRule(cause), level, text: sentences.join(" "), units };
}

function causeRule({ cause }: Cause): Rule {
  const { legend, transform } = catalogue[cause];
  return {
    id: cause,
    short: legend,
    full: `${legend} (${transforms[transform].title}: ${transforms[transform].meaning})`,
    help: causeEntryText(cause),
  };
}

function openResult(finding: Finding, verdict: Verdict["verdict"]): Result {
  const record = finding.record?.length ? ` To see further, record ${finding.record.join(", ")}.` : "";
  return {
    rule: openRule(verdict),
    level: verdict === "inconclusive" ? "warning" : "error",
    text: `${findingWords(finding)}.${record}`,
    units: [finding.unit],
  };
}

function openRule(verdict: Verdict["verdict"]): Rule {
  return verdict === "inconclusive"
    ? {
        id: "inconclusive",
        short: "Too little to name a fault.",
        full: "A unit stands slightly beyond rounding and nothing explains it, or nothing recorded could be checked.",
        help: "Record more of the values around it: docs/recording.md.",
      }
    : {
        id: "unexplained",
        short: "A unit does not follow from its own inputs.",
        full: "A unit stands beyond rounding, and no cause of the catalogue explains it.",
        help: "Record what lies between its inputs and it, or reproduce it alone: docs/repro.md.",
      };
}

function ruleObject({ id, short, full, help }: Rule) {
  return {
    id,
    shortDescription: { text: short },
    fullDescription: { text: full },
    help: { text: help, markdown: help },
  };
}

function resultObject({ rule, level, text, units }: Result, rules: readonly Rule[], uri: string) {
  const [first, ...others] = units.map((unit) => ({
    name: visible(unit.split(".").at(-1)!),
    fullyQualifiedName: visible(unit),
    kind: "module",
  }));
  return {
    ruleId: rule.id,
    ruleIndex: rules.indexOf(rule),
    level,
    message: { text: message(text) },
    locations: [
      {
        // A recording has no lines; viewers of code scanning show no result without one.
        physicalLocation: { artifactLocation: { uri }, region: { startLine: 1 } },
        ...(first && { logicalLocations: [first] }),
      },
    ],
    ...(others.length > 0 && {
      relatedLocations: others.map((other, id) => ({ id, logicalLocations: [other] })),
    }),
    partialFingerprints: { "causeAndUnit/v1": `${rule.id}:${visible(units[0] ?? "")}` },
  };
}

/** Plain text of a message: brackets would begin a link. */
function message(text: string): string {
  return visible(text).replace(/[[\]\\]/g, "\\$&");
}

/** A file's place as SARIF has it: relative to where the command was given, or absolute. */
function artifactUri(path: string): string {
  const near = relative(process.cwd(), resolve(path));
  if (near.startsWith("..") || near === "") return pathToFileURL(resolve(path)).href;
  return Buffer.from(near).toString().split(/[\\/]/).map(encodeURIComponent).join("/");
}
