import type { UnitCheck } from "./investigation.js";
import type { Cause, Finding, Verdict } from "./verdict.js";

/** A trap that changes nothing yet, and a record that is wrong of a run that is right, are named without alarm. */
function isAlarm(cause: Cause): boolean {
  return !cause.latent && cause.kind !== "observer";
}

/** Beyond the limits by less than this and unexplained: too little to accuse anybody. */
const marginal = 1.5;

export function decide(
  causes: readonly Cause[],
  findings: readonly Finding[],
  checks: readonly UnitCheck[],
): Verdict["verdict"] {
  const real = causes.filter(isAlarm);
  if (real.some((cause) => cause.alternatives.length === 0)) return "fault";
  if (real.length > 0) return "ambiguous";
  const unexplained = new Set(findings.filter(({ cause }) => cause === null).map(({ unit }) => unit));
  const worst = Math.max(0, ...checks.filter((check) => unexplained.has(check.node.name)).map((check) => check.excess));
  if (worst > marginal) return "fault";
  if (worst > 1) return "inconclusive";
  return checks.some((check) => check.statistics.checked > 0) ? "clean" : "inconclusive";
}

export function summarise(
  verdict: Verdict["verdict"],
  causes: readonly Cause[],
  findings: readonly Finding[],
  checks: readonly UnitCheck[],
): string {
  const worst = Math.max(0, ...checks.map((check) => check.statistics.rmsZ));
  const real = causes.filter(isAlarm);
  const unexplained = findings.filter(({ cause }) => cause === null).length;
  const records = causes.filter(({ kind }) => kind === "observer");
  if (verdict === "clean" && records.length > 0) {
    return `The run is right, its record is not: ${records[0]!.statement}.`;
  }
  if (verdict === "clean") {
    const latent =
      causes.length > real.length ? ` One trap lies ready: ${causes.find((cause) => cause.latent)!.statement}.` : "";
    return `Rounding, not a bug: all ${checks.length} units follow from their own inputs (worst rms z ${worst.toFixed(2)}).${latent}`;
  }
  if (verdict === "inconclusive") {
    if (findings.length === 0) return "Nothing recorded could be checked.";
    return `${unexplained} unit${unexplained > 1 ? "s stand" : " stands"} slightly beyond rounding and nothing in the catalogue explains it: too little to name a fault.`;
  }
  if (verdict === "ambiguous")
    return `I cannot tell between ${[real[0]!.cause, ...real[0]!.alternatives].join(" and ")}: ${real[0]!.separate ?? "record more"}.`;
  if (real.length === 0)
    return `${unexplained} unit${unexplained > 1 ? "s do" : " does"} not follow from their own inputs, the first is ${findings[0]!.unit}; nothing in the catalogue explains it.`;
  return `${real.length} cause${real.length > 1 ? "s" : ""}: ${real.map((cause) => cause.cause).join(", ")}${unexplained > 0 ? `; ${unexplained} finding${unexplained > 1 ? "s" : ""} unexplained` : ""}.`;
}
