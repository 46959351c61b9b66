import type { Cause } from "../diagnose/explain/cause.js";
import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import type { Verdict } from "../diagnose/tell/verdict.js";
import { evidenceWords, extentWords, unitsWords } from "./cause-words.js";
import { findingWords, nearestWords } from "./finding-words.js";
import { heading } from "./heading.js";
import { nextSteps } from "./next-steps.js";
import { repairWords, tokenProofWords } from "./proof-words.js";
import { coverageWords } from "./recording-words.js";
import { referenceScreen } from "./reference.js";
import type { Page } from "./terminal.js";
import { plural, section, wrap } from "./text.js";

/** Causes that are told in full, unexplained findings that are listed, and lines that one sentence may take. */
const [mostCauses, mostFindings, mostLines] = [3, 3, 3];
/** Things to do besides the command. */
const mostSteps = 2;
/** Columns of the words before what they speak of. */
const margin = 10;

/** A verdict on about one screen: verdict, causes with their evidence, proof, what to do next, and what is left out. */
export function screenText(diagnosis: Diagnosis, page: Page): string {
  const parts = [
    heading(diagnosis, page),
    ...diagnosis.causes.slice(0, mostCauses).map((cause, i) => causeText(cause, i, page)),
    otherCauses(diagnosis, page),
    unexplained(diagnosis, page),
    diagnosis.reference ? referenceScreen(diagnosis.reference, page.c, page.width) : "",
    closing(diagnosis, page),
  ];
  return parts.filter((part) => part !== "").join("\n\n");
}

function causeText(cause: Cause, index: number, { c, width }: Page): string {
  const labelled = (label: string, text: string) => briefly(`${label.padEnd(8)} ${text}`, width, "   ", 12);
  const extent = extentWords(cause.extent);
  const lines = [
    `${c.bold(`${index + 1}  ${cause.cause}`)}  ${c.dim(`${cause.kind}, ${cause.transform}`)}${cause.latent ? c.yellow("  latent") : ""}`,
    briefly(cause.statement, width, "   "),
    labelled("seen in", `${unitsWords(cause, 3)}${extent === "" ? "" : `; ${extent}`}`),
    labelled("evidence", evidenceWords(cause)),
  ];
  const hidden = new Set((cause.notVisible ?? []).flatMap(({ layers }) => layers));
  if (hidden.size > 0)
    lines.push(labelled("hidden", `in ${plural(hidden.size, "more layer")}, if it is there (--verbose)`));
  if (cause.alternatives.length > 0) lines.push(labelled("or", cause.alternatives.join(", ")));
  return lines.join("\n");
}

function otherCauses({ causes }: Verdict, { c, width }: Page): string {
  const rest = causes.slice(mostCauses);
  const lines = rest
    .slice(0, mostCauses)
    .map(({ cause, statement }, i) => briefly(`${i + mostCauses + 1}  ${cause}: ${statement}`, width, "  ", 5, 1));
  if (rest.length > lines.length) lines.push(`  and ${rest.length - lines.length} more`);
  return section(c, `${plural(rest.length, "more cause")} (--verbose)`, lines);
}

function unexplained({ findings }: Verdict, { c, width }: Page): string {
  const open = findings.filter(({ cause }) => cause === null);
  const lines = open.slice(0, mostFindings).map((finding) => briefly(findingWords(finding), width, "  ", 4));
  const near = open[0]?.nearest?.[0];
  if (near) lines.splice(1, 0, briefly(`near: ${nearestWords(near)}`, width, "    ", 6));
  if (open.length > mostFindings) lines.push(`  and ${open.length - mostFindings} more (--verbose)`);
  return section(c, "Wrong, and nothing in the catalogue explains it", lines);
}

function closing(diagnosis: Verdict, { c, width, run }: Page): string {
  const blank = " ".repeat(margin);
  const labelled = (label: string, texts: readonly string[]) =>
    texts.map((text, i) => {
      const lines = wrap(text, width, blank, margin);
      return i === 0 ? `${c.bold(label.padEnd(margin))}${lines.slice(margin)}` : lines;
    });
  const steps = nextSteps(diagnosis, run);
  const words = steps.filter(({ command }) => command === undefined).slice(0, mostSteps);
  const next = [...words, ...steps.filter(({ command }) => command !== undefined)].flatMap(({ what, command }, i) => [
    ...labelled(i === 0 ? "Next" : "", [what]),
    // A command is copied: it stays on one line.
    ...(command === undefined ? [] : [`${blank}${command}`]),
  ]);
  return [
    ...labelled("Proof", proofLines(diagnosis)),
    ...labelled("Audits", auditLines(diagnosis, c)),
    ...labelled("Covered", [coverageWords(diagnosis.coverage)]),
    ...labelled("Not shown", notShown(diagnosis)),
    ...labelled("More", [`${more(diagnosis).join(", ")}: --verbose`]),
    ...next,
  ].join("\n");
}

/** "with all causes in the spec 479 of 479 units match; without 1: 478, without 2: 476", then the run from its tokens. */
function proofLines(diagnosis: Verdict): string[] {
  const { proof, causes } = diagnosis;
  const { reproduced, necessity } = proof;
  const spec = ["the spec as it is: ", "with the cause in the spec "][causes.length] ?? "with all causes in the spec ";
  const counts = necessity.map(({ matched }) => matched);
  const without =
    counts.length > mostCauses
      ? [`without any one of them ${Math.min(...counts)} to ${Math.max(...counts)}`]
      : necessity.map(({ without, matched }) => `without ${without + 1}: ${matched}`);
  const tokens = tokenProofWords(diagnosis);
  const repair = repairWords(proof);
  return [
    `${spec}${reproduced.matched} of ${reproduced.of} units match${without.length > 0 ? `; ${without.join(", ")}` : ""}`,
    ...(tokens ? [`run again from its tokens: ${tokens}`] : []),
    ...(repair ? [`${causes.length > 0 ? "repaired: " : "the model says: "}${repair}`] : []),
    ...proof.notes,
  ];
}

function auditLines({ audits }: Verdict, c: Page["c"]): string[] {
  const named = Object.entries(audits);
  const passed = named.filter(([, { pass }]) => pass).map(([name]) => name);
  const failed = named.filter(([, { pass }]) => !pass).map(([name]) => name);
  return [
    [
      failed.length > 0 ? c.red(`${failed.join(", ")} FAIL`) : "",
      passed.length > 0 ? `${passed.join(", ")} ${passed.length > 1 ? "pass" : "passes"}` : "",
    ]
      .filter(Boolean)
      .join("; "),
  ];
}

/** What a pass does not exclude, in numbers. */
function notShown({ notVisible, unchecked }: Verdict): string[] {
  const kinds = new Set(notVisible.map(({ cause }) => cause)).size;
  const limits = [
    kinds > 0 && `${plural(kinds, "kind")} of fault would not have shown in some unit`,
    unchecked.length > 0 && `${plural(unchecked.length, "value")} unchecked`,
  ].filter(Boolean);
  return limits.length > 0 ? [`${limits.join("; ")} (--verbose says which and why)`] : [];
}

function more({ ruledOut, chain }: Verdict): string[] {
  return [
    ...(chain.length > 0 ? ["from cause to symptom"] : []),
    ...(ruledOut.length > 0 ? [`${plural(ruledOut.length, "suspect")} ruled out`] : []),
    "how each kind of unit rounds",
  ];
}

/** Wrapped, and cut where it takes too many lines. */
function briefly(text: string, width: number, indent: string, hang = indent.length + 2, most = mostLines): string {
  const lines = wrap(text, width, indent, hang).split("\n");
  if (lines.length <= most) return lines.join("\n");
  const kept = lines.slice(0, most).join("\n");
  return `${lines[most - 1]!.length < width ? kept : kept.slice(0, -1)}…`;
}
