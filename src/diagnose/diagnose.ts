import { type AssembledCause, causesOf, directCause, extended, finite } from "./assemble.js";
import { audit } from "./audits.js";
import { checkAll } from "./check/check-all.js";
import { decide, summarise } from "./decision.js";
import { Explainer } from "./explain/explainer.js";
import { spreadCauses } from "./explain/spread.js";
import { extentOf } from "./extent.js";
import type { Investigation, UnitCheck } from "./investigation.js";
import { checkMetadata, type DirectCause } from "./metadata.js";
import { createdNonFinite } from "./non-finite.js";
import { aliases, readersOf, wrongRecords } from "./observer.js";
import { type InvestigationSource, openInvestigation } from "./open-investigation.js";
import { checkParameters } from "./parameters.js";
import { type Detokenize, prove } from "./prove.js";
import { checkSeams } from "./seams.js";
import { ruledOut } from "./suspects.js";
import { magnitudes, symptomChain } from "./symptom.js";
import { settledRecipes, summaries, unchecked } from "./unit-summary.js";
import type { Finding, Verdict } from "./verdict.js";
import { sensitivity } from "./visibility.js";

export interface DiagnoseOptions extends InvestigationSource {
  /** Called with what is being done and how far it is, 0 to 1. */
  readonly progress?: (stage: string, done: number) => void;
  /** Turns token ids into text for the chain and the repair. */
  readonly detokenize?: Detokenize;
}

/**
 * Says which op, or which seam between two ops, computed something the model does not mean, why, and proves it.
 * @throws InputError when the recording or the model cannot be read.
 */
export async function diagnose(options: DiagnoseOptions): Promise<Verdict> {
  const { progress = () => {}, detokenize = null } = options;
  const { investigation, close } = openInvestigation(options);
  try {
    const checks = await checkAll(investigation, options, (done) => progress("checking units", done));
    return verdictOf(investigation, checks, progress, detokenize);
  } finally {
    close();
  }
}

function verdictOf(
  investigation: Investigation,
  checks: readonly UnitCheck[],
  progress: NonNullable<DiagnoseOptions["progress"]>,
  detokenize: Detokenize,
): Verdict {
  progress("checking metadata and seams", 0);
  const metadata = checkMetadata(investigation);
  const seams = checkSeams(investigation);
  const parameters = checkParameters(investigation);
  const failing = checks.filter((check) => check.excess > 1);
  const { observed, rest } = splitObserver(investigation, failing);
  const explainer = new Explainer(investigation);
  // Units within rounding whose bits nobody gives back may still hold a fault too small to stand out: only a cause that
  // gives all their bits counts.
  const unreached = checks.filter((check) => check.excess <= 1 && !check.matched && check.bits !== undefined);
  const found = explainer.explainAll([...rest, ...unreached], (done) => progress("explaining findings", done));
  const explained = found.filter(({ check, explanations }) => check.excess > 1 || explanations.length > 0);
  progress("naming causes", 0);
  const named = causesOf(investigation, checks, explained);
  const unexplained = explained.filter(({ explanations }) => explanations.length === 0).map(({ check }) => check);
  const broken = createdNonFinite(investigation, unexplained);
  const direct = groupDirect([...metadata.causes, ...seams.causes, ...parameters.causes, ...observed, ...broken]);
  const assembled = mergeCauses(direct, spread(investigation, named, unexplained));
  const sorted = inOrder(investigation, assembled).map((entry) => markLatent(investigation, entry));
  progress("proving", 0);
  const proof = prove(investigation, checks, sorted, detokenize);
  const causes = sorted.map(({ cause }) => cause);
  const numbers = magnitudes(checks);
  const subtle = unreached.filter(({ node }) => sorted.some(({ explains }) => explains.has(node.name)));
  const findings = findingsOf(investigation, [...failing, ...subtle], sorted);
  const verdict = decide(causes, findings, checks);
  progress("ruling out suspects", 0.5);
  return {
    verdict,
    summary: summarise(verdict, causes, findings, checks),
    causes,
    findings,
    proof,
    audits: audit({ investigation, checks, causes, seams, metadata }),
    chain: verdict === "clean" ? [] : symptomChain(investigation, numbers, detokenize),
    ruledOut: ruledOut(investigation, checks, numbers),
    notVisible: sensitivity(investigation, checks),
    unchecked: unchecked(investigation, checks),
    units: summaries(checks),
    recipes: settledRecipes(investigation, checks),
    recording: {
      path: investigation.capture.path,
      model: investigation.config.modelType,
      steps: investigation.capture.steps.length,
      rows: investigation.observations.rows.count,
      sequences: new Set(investigation.observations.rows.seqId).size,
      values: investigation.capture.records.length,
      dtype: investigation.precision.store,
      compute: investigation.precision.compute,
    },
  };
}

/** Findings whose record is wrong while the run went on with the right value. */
function splitObserver(
  investigation: Investigation,
  failing: readonly UnitCheck[],
): { observed: DirectCause[]; rest: UnitCheck[] } {
  const wrong = wrongRecords(investigation, failing);
  const settled = new Set([
    ...wrong,
    ...readersOf(
      investigation,
      wrong.flatMap((name) => aliases(investigation, name)),
    ),
  ]);
  const observed = wrong.map((name): DirectCause => {
    const check = failing.find(({ node }) => node.name === name)!;
    return {
      cause: "record-overwritten",
      kind: "observer",
      transform: "T20",
      unit: name,
      step: investigation.capture.steps[0]!.step,
      layer: check.node.layer,
      parameters: {},
      statement: `the record of ${name} is wrong, the run is not: everything that read it follows from the right value (a buffer reused before it was dumped)`,
      group: "record-overwritten",
      samples: check.statistics.checked,
    };
  });
  return { observed, rest: failing.filter((check) => !settled.has(check.node.name)) };
}

/** Causes of recorded layers, extended to the unrecorded ones whose units they explain. */
function spread(
  investigation: Investigation,
  named: readonly AssembledCause[],
  unexplained: readonly UnitCheck[],
): AssembledCause[] {
  const found = spreadCauses(investigation, unexplained, named);
  return named.map((entry) => {
    const more = found.get(entry);
    return more ? extended(investigation, entry, more) : entry;
  });
}

function groupDirect(found: readonly DirectCause[]): AssembledCause[] {
  const byGroup = new Map<string, DirectCause[]>();
  for (const cause of found) byGroup.set(cause.group, [...(byGroup.get(cause.group) ?? []), cause]);
  return [...byGroup.values()].map(directCause);
}

/** What metadata shows and what rewrites show may be the same cause: one entry then. */
function mergeCauses(direct: readonly AssembledCause[], explained: readonly AssembledCause[]): AssembledCause[] {
  const out = [...explained];
  for (const entry of direct) {
    const same = out.findIndex(({ group }) => group === entry.group);
    if (same < 0) {
      out.push(entry);
      continue;
    }
    const other = out[same]!;
    const units = [...new Set([...entry.cause.units, ...other.cause.units])];
    out[same] = {
      ...other,
      cause: { ...other.cause, units, steps: [...new Set([...other.cause.steps, ...entry.cause.steps])] },
    };
  }
  return out;
}

function inOrder(investigation: Investigation, causes: readonly AssembledCause[]): AssembledCause[] {
  const order = new Map([...investigation.graph.nodes.keys()].map((name, i) => [name, i]));
  const place = ({ cause }: AssembledCause) => Math.min(...cause.units.map((unit) => order.get(unit) ?? -1));
  return [...causes].sort((a, b) => place(a) - place(b));
}

/** A shift of all positions of queries and keys alike leaves every score as it is: harmless until unshifted keys join. */
function markLatent(investigation: Investigation, entry: AssembledCause): AssembledCause {
  const { cause } = entry;
  if (cause.cause !== "position-offset" || cause.extent.rows) return entry;
  const ropes = investigation.units().filter((node) => node.op.kind === "rope");
  const shifted = new Set(cause.units.filter((unit) => unit.endsWith("_rope")));
  const uniform = ropes.length > 0 && ropes.every((node) => shifted.has(node.name));
  if (!uniform) return entry;
  const statement = `${cause.statement}; all queries and keys share it, so no score changes: latent, it becomes real as soon as unshifted keys join`;
  return { ...entry, cause: { ...cause, latent: true, statement } };
}

function findingsOf(
  investigation: Investigation,
  failing: readonly UnitCheck[],
  causes: readonly AssembledCause[],
): Finding[] {
  const rows = investigation.observations.rows;
  const units: Finding[] = failing.map((check) => {
    const index = causes.findIndex(
      ({ explains, cause }) => explains.has(check.node.name) || cause.units.includes(check.node.name),
    );
    const observerIndex = causes.findIndex(
      ({ cause }) =>
        cause.kind === "observer" &&
        readersOf(
          investigation,
          cause.units.flatMap((unit) => aliases(investigation, unit)),
        ).includes(check.node.name),
    );
    const worst = check.comparison.z.reduce(
      (best, z, i) => (Math.abs(z) > Math.abs(check.comparison.z[best]!) ? i : best),
      0,
    );
    const row = check.comparison.rows[Math.floor(worst / check.comparison.columns.length)]!;
    return {
      unit: check.node.name,
      step: rows.steps[rows.stepOf[row]!]!.step,
      rmsZ: finite(check.statistics.rmsZ),
      maxZ: finite(check.statistics.maxZ),
      extent: extentOf(check.comparison, check.node),
      cause: index >= 0 ? index : observerIndex >= 0 ? observerIndex : null,
    };
  });
  const seams: Finding[] = causes.flatMap(({ cause, explains }, index) =>
    explains.size > 0 || cause.kind === "observer"
      ? []
      : cause.units.map((unit) => ({
          unit,
          step: cause.steps[0] ?? 0,
          rmsZ: null,
          maxZ: null,
          extent: cause.extent,
          cause: index,
        })),
  );
  return [...seams, ...units];
}
