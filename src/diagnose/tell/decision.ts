import type { UnitCheck } from "../check/investigation.js";
import { spanText } from "../check/span.js";
import type { Cause } from "../explain/cause.js";
import type { Finding, Verdict } from "./verdict.js";

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
  const real = causes.filter(isAlarm);
  const unexplained = findings.filter(({ cause }) => cause === null).length;
  const records = causes.filter(({ kind }) => kind === "observer");
  if (verdict === "clean" && records.length > 0) {
    return `The run is right, its record is not: ${records[0]!.statement}.`;
  }
  if (verdict === "clean") {
    const latent =
      causes.length > real.length ? ` One trap lies ready: ${causes.find((cause) => cause.latent)!.statement}.` : "";
    return `Rounding, not a bug: ${agreement(checks)}.${latent}`;
  }
  if (verdict === "inconclusive") {
    if (findings.length === 0) return "Nothing recorded could be checked.";
    return `${unexplained} unit${unexplained > 1 ? "s stand" : " stands"} slightly beyond rounding and nothing in the catalogue explains it: too little to name a fault.`;
  }
  if (verdict === "ambiguous")
    return `I cannot tell between ${[real[0]!.cause, ...real[0]!.alternatives].join(" and ")}: ${real[0]!.separate ?? "record more"}.`;
  if (real.length === 0) {
    const first = findings.find(({ cause }) => cause === null)!;
    const where = first.span ? `: the fault is somewhere in ${spanText(first.span)}, unrecorded` : "";
    const next = first.record?.length ? `; record ${first.record.join(", ")} to see further` : "";
    return `${unexplained} unit${unexplained > 1 ? "s do" : " does"} not follow from ${unexplained > 1 ? "their" : "its"} own inputs, the first is ${first.unit}${where}; nothing in the catalogue explains it${next}.`;
  }
  return `${real.length} cause${real.length > 1 ? "s" : ""}: ${real.map((cause) => cause.cause).join(", ")}${unexplained > 0 ? `; ${unexplained} finding${unexplained > 1 ? "s" : ""} unexplained` : ""}.`;
}

/** "all 479 units follow from their own inputs, 470 of them bit for bit (99.98% of 5,123,456 elements, …), 9 within rounding". */
function agreement(checks: readonly UnitCheck[]): string {
  const given = checks.filter(({ matched, bits }) => matched && bits);
  if (given.length > 0 && given[0]!.recipe!.store === "float32")
    return `all ${checks.length} units follow from their own inputs to within the error of a float32 sum`;
  const compared = given.reduce((sum, { bits }) => sum + bits!.compared, 0);
  const equal = given.reduce((sum, { bits }) => sum + bits!.equal, 0);
  const all = `all ${checks.length} units follow from their own inputs`;
  if (given.length === 0) return all;
  const percent = Math.floor((10_000 * equal) / Math.max(1, compared)) / 100;
  const rest = equal < compared ? ", the others by what the order of summation may flip" : "";
  const left = checks.length - given.length;
  const others = left > 0 ? `; ${left} more ${left === 1 ? "is" : "are"} within rounding` : "";
  return `${all}, ${given.length} of them as their recipes round (${percent}% of ${compared.toLocaleString("en")} elements bit for bit${rest})${others}`;
}
