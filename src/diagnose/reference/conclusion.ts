import type { Verdict } from "../tell/verdict.js";
import type { Parting } from "./parting.js";
import type { ReferenceReport } from "./reference-report.js";

/** What two runs say together, in a few sentences. */
export function conclude(report: Omit<ReferenceReport, "summary">, target: Verdict): string {
  const sentences = [partingSentence(report, target), ...sharedSentences(report, target)];
  const beyond = report.aligned.of - report.aligned.rows;
  if (beyond > 0) sentences.push(`${beyond} of ${report.aligned.of} rows have no counterpart in the reference.`);
  return sentences.join(" ");
}

function partingSentence({ parting, values, shared, aligned }: Omit<ReferenceReport, "summary">, target: Verdict) {
  if (parting) return `The runs part at ${placeText(parting)}: ${blame(parting)}.`;
  if (shared.length > 0) return "The runs do not part beyond rounding, and both are wrong.";
  const departed = target.findings.some(({ cause }) => cause === null || !target.causes[cause]!.latent);
  if (departed) return "Where both computed the same text, the runs do not part beyond rounding.";
  const same = values.filter(({ state }) => state === "same").length;
  return `The runs do not part beyond rounding: each of ${values.length} common values follows from its own inputs in both, over ${aligned.rows} rows of the same text; ${same} are equal number for number.`;
}

function placeText({ unit, step, sequence, position, cause }: Parting): string {
  const named = cause === null ? "" : ` (${cause})`;
  return `${unit}${named}, step ${step}, sequence ${sequence}, position ${position}`;
}

function blame({ wrong, other, otherCause }: Parting): string {
  if (wrong === "both")
    return `both depart from the model there, in different ways${otherCause ? `, the reference by ${otherCause}` : ""}`;
  const [bad, good] = wrong === "target" ? ["the target", "the reference"] : ["the reference", "the target"];
  const rest = other === "right" ? `${good} does not` : `${good} has no record that tells`;
  return `${bad} departs from the model there, ${rest}${wrong === "reference" ? "; the reference is the wrong one" : ""}`;
}

function sharedSentences({ shared, causes }: Omit<ReferenceReport, "summary">, target: Verdict): string[] {
  const named = shared.flatMap(({ target: i, reference: j }) => {
    const cause = i === null ? (j === null ? undefined : causes[j]) : target.causes[i];
    return cause ? [cause.cause] : [];
  });
  const unnamed = shared
    .filter((fault) => fault.target === null && fault.reference === null)
    .flatMap(({ units }) => units);
  const out: string[] = [];
  if (named.length > 0)
    out.push(`Both have the same fault: ${named.join(", ")}; comparing the two alone would not have shown it.`);
  if (unnamed.length > 0) out.push(`Both err alike in ${unnamed.join(", ")}, which nothing in the catalogue explains.`);
  return out;
}
