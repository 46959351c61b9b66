import { catalogue } from "../../diagnose/causes/catalogue.js";
import type { CauseKind } from "../../diagnose/causes/cause-entry.js";
import { transforms } from "../../diagnose/causes/transforms.js";
import type { Cause } from "../../diagnose/explain/cause.js";
import type { Diagnosis, ReferenceReport } from "../../diagnose/reference/reference-report.js";
import type { Verdict } from "../../diagnose/tell/verdict.js";
import { evidenceWords, extentWords, layersWords, parameterWords } from "../cause-words.js";
import { commandText } from "../commands.js";
import { findingWords, nearestWords } from "../finding-words.js";
import { nextSteps } from "../next-steps.js";
import { repairWords, tokenProofWords } from "../proof-words.js";
import { coverageWords, recipeWords, recordingWords } from "../recording-words.js";
import type { ReportContext } from "../report-format.js";
import type { CauseCard, PageData, ReferenceCard, RunView } from "./page-data.js";

/** Unexplained findings that are listed, and values compared with a reference. */
const mostFindings = 40;

/** A verdict and the run it was reached on as a page shows them. */
export function pageData(diagnosis: Diagnosis, context: ReportContext, run: RunView, live = false): PageData {
  const { verdict, summary, causes, findings, proof, recording, reference } = diagnosis;
  const { matched, of } = proof.reproduced;
  return {
    version: context.version,
    live,
    verdict: { state: verdict, summary },
    recording: { path: recording.path, model: recording.model, words: recordingWords(recording) },
    causes: causes.map((cause, i) => causeCard(cause, proof.necessity.find(({ without }) => without === i)?.matched)),
    unexplained: findings
      .filter(({ cause }) => cause === null)
      .slice(0, mostFindings)
      .map((finding) => ({
        unit: finding.unit,
        words: findingWords(finding),
        nearest: (finding.nearest ?? []).map(nearestWords),
      })),
    proof: {
      matched,
      of,
      asIs: run.values.filter(({ state, of }) => of > 0 && state !== "wrong").length,
      fromTokens: tokenProofWords(diagnosis) ?? null,
      repair: repairWords(proof) ?? null,
      notes: proof.notes,
    },
    reference: reference ? referenceCard(reference) : null,
    audits: Object.entries(diagnosis.audits).map(([name, { pass, evidence }]) => ({ name, pass, evidence })),
    ruledOut: diagnosis.ruledOut,
    chain: diagnosis.chain,
    coverage: coverageWords(diagnosis.coverage),
    recipes: diagnosis.recipes.map((recipe) => ({
      unit: recipe.unit,
      words: recipeWords(recipe),
      title: recipe.title,
      known: recipe.known.join(", "),
      equal: recipe.equal,
    })),
    unchecked: diagnosis.unchecked,
    notVisible: diagnosis.notVisible.map(({ cause, why }) => ({ cause, why })),
    commands: commandsFor(diagnosis, context),
    run,
  };
}

function causeCard(cause: Cause, without: number | undefined): CauseCard {
  const { equal, compared, equalWithout } = cause.evidence;
  const { kind, alternatives, separate } = cause;
  const { title, meaning } = transforms[cause.transform];
  return {
    id: cause.cause,
    kind,
    transform: `${cause.transform}, ${title}: ${meaning}`,
    latent: cause.latent ?? false,
    legend: catalogue[cause.cause].legend,
    statement: cause.statement,
    units: cause.units,
    steps: cause.steps,
    extent: extentWords(cause.extent),
    found: parameterWords(cause),
    evidence: evidenceWords(cause),
    bits: equal !== undefined && compared ? { equal, compared, without: equalWithout ?? null } : null,
    without: without ?? null,
    change: changes[kind],
    hidden: (cause.notVisible ?? []).map(({ layers, why }) => `${layersWords(layers)}: ${why}`),
    alternatives: alternatives.length > 0 ? `${alternatives.join(", ")}; to tell: ${separate ?? "record more"}` : null,
  };
}

/** Where a cause of each kind is put right. */
const changes: Readonly<Record<CauseKind, string>> = {
  kernel: "Inside the kernel that computes this unit: its inputs are right as recorded, its result is not.",
  seam: "Not inside a kernel: where one hands over to the next. Decide which of the two sides does it, and have it done exactly once, in the layout both agree on.",
  metadata:
    "On the host that prepares the step: positions, lengths, page tables and slots follow from token counts alone.",
  parameter: "In loading: the parameter in use is not the checkpoint's. Compare what was loaded, name by name.",
  state: "In who writes to the storage, and when: it was right when written and is not when read.",
  environment: "In what differs between runs of the same step: streams, events, graph constants.",
  observer: "In the recorder alone: the run is right, its record is not. Copy values when they are produced.",
};

function referenceCard({ summary, recording, verdict, values }: ReferenceReport): ReferenceCard {
  return {
    summary,
    words: `${recording.path}: ${verdict} by itself; ${recordingWords(recording)}`,
    values: values.map(({ unit, state, equal }) => ({ unit, state, equal })),
  };
}

/** The commands that give all of this again. */
function commandsFor(diagnosis: Verdict, context: ReportContext): PageData["commands"] {
  const { target, model, reference, names } = context.run;
  const run = [...[target].flat(), "--model", model];
  const beside = reference === undefined ? [] : ["--reference", ...[reference].flat()];
  const steps = [
    { what: "the verdict, and this page:", command: commandText([...context.command, "--report", "out.html"]) },
    ...nextSteps(diagnosis, context.run),
  ];
  if (names !== undefined) return steps;
  return [
    ...steps,
    { what: "any element of any value:", command: commandText(["faultline", "view", ...run, ...beside]) },
  ];
}
