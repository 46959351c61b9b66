import type { Cause } from "../diagnose/explain/cause.js";
import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import type { RecipeSummary, UnitSummary, Verdict } from "../diagnose/tell/verdict.js";
import { evidenceWords, extentWords, layersWords, parameterWords, unitsWords } from "./cause-words.js";
import { commandText, reproCommandText } from "./commands.js";
import { findingWords, nearestWords } from "./finding-words.js";
import { codeBlock, codeSpan, sentence, tableRow } from "./markdown-text.js";
import { nextSteps } from "./next-steps.js";
import { proofWords } from "./proof-words.js";
import { recipeWords, recordingWords } from "./recording-words.js";
import { type ReportContext, reportMark } from "./report-format.js";
import { percent } from "./text.js";

/** Unexplained findings that are listed. */
const mostFindings = 20;

/** A verdict as Markdown for an issue or a pull request. Whatever a recording holds stands in it as text. */
export function markdownReport(diagnosis: Diagnosis, context: ReportContext): string {
  const { verdict, summary, causes, reference } = diagnosis;
  const parts = [
    `<!-- ${reportMark} -->`,
    `## faultline: ${verdict.toUpperCase()}`,
    sentence(summary),
    `${codeSpan(diagnosis.recording.path)}: ${sentence(recordingWords(diagnosis.recording))}`,
    ...causes.map(causeSection),
    unexplained(diagnosis),
    ...(reference ? [`### Beside the reference\n\n${sentence(reference.summary)}`] : []),
    list("### From cause to symptom", diagnosis.chain.map(sentence)),
    list("### Proof", proofWords(diagnosis).map(sentence)),
    list(
      "### Audits",
      Object.entries(diagnosis.audits).map(
        ([name, { pass, evidence }]) => `${pass ? "pass" : "**FAIL**"} ${name}: ${sentence(evidence)}`,
      ),
    ),
    roundings(diagnosis),
    list(
      "### Next",
      nextSteps(diagnosis, context.run).map(({ what, command }) =>
        command === undefined ? sentence(what) : `${sentence(what)} ${codeSpan(command)}`,
      ),
    ),
    `### Reproduce\n\n${reproduce(diagnosis, context)}`,
    `<sub>faultline ${sentence(context.version)}</sub>`,
  ];
  return `${parts.filter((part) => part !== "").join("\n\n")}\n`;
}

function list(title: string, lines: readonly string[]): string {
  return lines.length === 0 ? "" : `${title}\n\n${lines.map((line) => `* ${line}`).join("\n")}`;
}

function causeSection(cause: Cause, index: number): string {
  const extent = extentWords(cause.extent);
  const lines = [
    `seen in ${sentence(unitsWords(cause, 8))}${extent === "" ? "" : `; ${sentence(extent)}`}`,
    `evidence: ${sentence(evidenceWords(cause))}`,
    ...parameterWords(cause).map(([name, value]) => `found: ${codeSpan(name)} = ${codeSpan(value)}`),
    ...(cause.notVisible ?? []).map(({ layers, why }) => `hidden in ${layersWords(layers)}: ${sentence(why)}`),
  ];
  if (cause.alternatives.length > 0)
    lines.push(`or ${cause.alternatives.map(codeSpan).join(", ")}; to tell: ${sentence(cause.separate ?? "")}`);
  const latent = cause.latent ? ", latent" : "";
  return list(
    `### ${index + 1}. ${codeSpan(cause.cause)} (${cause.kind}, ${cause.transform}${latent})\n\n${sentence(cause.statement)}`,
    lines,
  );
}

function unexplained({ findings }: Verdict): string {
  const open = findings.filter(({ cause }) => cause === null);
  const lines = open
    .slice(0, mostFindings)
    .map((finding) =>
      [findingWords(finding), ...(finding.nearest ?? []).map((near) => `near: ${nearestWords(near)}`)]
        .map(sentence)
        .join("\n  * "),
    );
  if (open.length > lines.length) lines.push(`and ${open.length - lines.length} more`);
  return list("### Wrong, and nothing in the catalogue explains it", lines);
}

function roundings({ units, recipes }: Verdict): string {
  const byUnit = new Map(recipes.map((recipe) => [recipe.unit, recipe]));
  const row = ({ unit, count, equal, worstRmsZ, failed }: UnitSummary, recipe: RecipeSummary | undefined) =>
    tableRow([
      codeSpan(unit),
      String(count),
      equal === null ? "" : percent(equal),
      String(worstRmsZ),
      String(failed),
      recipe ? sentence(recipeWords(recipe)) : "",
    ]);
  return [
    "<details><summary>Agreement and rounding by kind of unit</summary>\n",
    tableRow(["unit", "count", "bit for bit", "worst rms z", "failed", "rounds as"]),
    "|---|--:|--:|--:|--:|---|",
    ...units.map((unit) => row(unit, byUnit.get(unit.unit))),
    "\n</details>",
  ].join("\n");
}

function reproduce(diagnosis: Verdict, context: ReportContext): string {
  const repro = reproCommandText(diagnosis, context.run);
  return codeBlock([commandText(context.command), ...(repro ? [repro] : [])], "sh");
}
