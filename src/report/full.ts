import type { Cause } from "../diagnose/explain/cause.js";
import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import type { Verdict } from "../diagnose/tell/verdict.js";
import { agreement } from "./agreement.js";
import { evidenceWords, extentWords, layersWords, parameterWords, unitsWords } from "./cause-words.js";
import { findingWords, nearestWords } from "./finding-words.js";
import { heading } from "./heading.js";
import { nextSteps } from "./next-steps.js";
import { proofWords } from "./proof-words.js";
import { referenceText } from "./reference.js";
import type { Page } from "./terminal.js";
import { section, wrap } from "./text.js";

/** All of a verdict: causes, chain, proof, audits, what is ruled out, how units agree, what could not be seen. */
export function fullText(diagnosis: Diagnosis, page: Page): string {
  const { c, width } = page;
  const listed = (title: string, lines: readonly string[]) =>
    section(
      c,
      title,
      lines.map((line) => wrap(`- ${line}`, width, "  ")),
    );
  const parts = [
    heading(diagnosis, page),
    ...diagnosis.causes.map((cause, index) => causeText(cause, index, page)),
    findings(diagnosis, page),
    diagnosis.reference ? referenceText(diagnosis.reference, c, width) : "",
    listed("From cause to symptom", diagnosis.chain),
    proof(diagnosis, page),
    audits(diagnosis, page),
    listed(
      "Ruled out",
      diagnosis.ruledOut.map(({ suspect, evidence }) => `${suspect}: ${evidence}`),
    ),
    agreement(diagnosis, c),
    listed(
      "Faults this recording could not have shown",
      diagnosis.notVisible.map(({ cause, why }) => `${cause}: ${why}`),
    ),
    listed(
      "Unchecked",
      diagnosis.unchecked.map(({ value, why }) => `${value}: ${why}`),
    ),
    section(
      c,
      "Next",
      nextSteps(diagnosis, page.run).map(({ what, command }) =>
        command === undefined ? wrap(what, width, "  ") : `${wrap(what, width, "  ")}\n    ${command}`,
      ),
    ),
  ];
  return parts.filter((part) => part !== "").join("\n\n");
}

function causeText(cause: Cause, index: number, { c, width }: Page): string {
  const labelled = (label: string, text: string) => wrap(`${label.padEnd(8)} ${text}`, width, "   ", 12);
  const lines = [
    `${c.bold(`${index + 1}  ${cause.cause}`)}  ${c.dim(`${cause.kind}, ${cause.transform}`)}${cause.latent ? c.yellow("  latent") : ""}`,
    wrap(cause.statement, width, "   "),
    labelled("seen in", unitsWords(cause, Number.POSITIVE_INFINITY)),
  ];
  const extent = extentWords(cause.extent);
  if (extent !== "") lines.push(labelled("extent", extent));
  const found = parameterWords(cause).map(([name, value]) => `${name} = ${value}`);
  if (found.length > 0) lines.push(labelled("found", found.join("; ")));
  lines.push(labelled("evidence", evidenceWords(cause)));
  for (const { layers, why } of cause.notVisible ?? [])
    lines.push(labelled("hidden", `in ${layersWords(layers)}: ${why}`));
  if (cause.alternatives.length > 0)
    lines.push(labelled("or", `${cause.alternatives.join(", ")}; to tell: ${cause.separate}`));
  return lines.join("\n");
}

function findings({ findings }: Verdict, { c, width }: Page): string {
  const lines = findings
    .filter(({ cause }) => cause === null)
    .flatMap((finding) => [
      wrap(findingWords(finding), width, "  ", 4),
      ...(finding.nearest ?? []).map((near) => wrap(`near: ${nearestWords(near)}`, width, "    ", 6)),
      ...(finding.record?.length
        ? [wrap(`to see further, record ${finding.record.join(", ")}`, width, "    ", 6)]
        : []),
    ]);
  return section(c, "Wrong, and nothing in the catalogue explains it", lines);
}

function proof(diagnosis: Verdict, { c, width }: Page): string {
  return section(
    c,
    "Proof",
    proofWords(diagnosis).map((line) => wrap(line, width, "  ")),
  );
}

function audits({ audits }: Verdict, { c, width }: Page): string {
  return section(
    c,
    "Audits",
    Object.entries(audits).map(([name, { pass, evidence }]) =>
      wrap(`${pass ? c.green("pass") : c.red("FAIL")}  ${name.padEnd(8)} ${evidence}`, width, "  ", 15),
    ),
  );
}
