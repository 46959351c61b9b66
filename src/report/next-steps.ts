import type { Verdict } from "../diagnose/tell/verdict.js";
import { reproCommandText } from "./commands.js";
import type { ReportContext } from "./report-format.js";

/** One thing to do, with the command for it where there is one. */
export interface NextStep {
  readonly what: string;
  readonly command?: string;
}

/** What to do now: what to record where something is open, and the command that makes a test of what is wrong. */
export function nextSteps(verdict: Verdict, run?: ReportContext["run"]): NextStep[] {
  const { causes, findings } = verdict;
  const steps: NextStep[] = causes.flatMap(({ cause, alternatives, separate, latent }) =>
    alternatives.length > 0 && !latent
      ? [{ what: `to tell ${cause} from ${alternatives.join(" and ")}: ${separate ?? "record more"}` }]
      : [],
  );
  const open = findings.find(({ cause, record = [] }) => cause === null && record.length > 0);
  if (open) steps.push({ what: `to see further into ${open.unit}, record ${open.record!.join(", ")}` });
  const repro = run === undefined || verdict.verdict === "clean" ? undefined : reproCommandText(verdict, run);
  if (repro) steps.push({ what: "a test that fails until it is repaired:", command: repro });
  if (verdict.verdict === "inconclusive" && findings.length === 0)
    steps.push({ what: "record values whose inputs are recorded too (docs/recording.md)" });
  return [...new Map(steps.map((step) => [step.what, step])).values()];
}
