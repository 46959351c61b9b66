import { extentOf } from "../check/extent.js";
import type { Investigation, UnitCheck } from "../check/investigation.js";
import { spanOf, toRecord } from "../check/span.js";
import type { AssembledCause } from "../explain/assemble.js";
import { finite } from "../explain/assemble.js";
import type { ExplainedFinding } from "../explain/explainer.js";
import type { NearestCause } from "../explain/nearest-causes.js";
import { aliases, readersOf } from "../records/observer.js";
import type { Finding } from "./verdict.js";

/** What the spec cannot explain by rounding, in execution order: seams and metadata that causes name, then units. */
export function findingsOf(
  investigation: Investigation,
  failing: readonly UnitCheck[],
  causes: readonly AssembledCause[],
  tried: readonly ExplainedFinding[],
): Finding[] {
  const nearest = new Map(tried.map((finding) => [finding.check.node.name, finding.nearest]));
  const order = new Map(investigation.units().map(({ name }, i) => [name, i]));
  const units = [...failing].sort((a, b) => order.get(a.node.name)! - order.get(b.node.name)!);
  return [
    ...seamFindings(causes),
    ...units.map((check) => unitFinding(investigation, check, causes, nearest.get(check.node.name))),
  ];
}

function unitFinding(
  investigation: Investigation,
  check: UnitCheck,
  causes: readonly AssembledCause[],
  nearest: readonly NearestCause[] = [],
): Finding {
  const rows = investigation.observations.rows;
  const { comparison, node, statistics } = check;
  const index = causes.findIndex(
    ({ explains, readers, cause }) =>
      explains.has(node.name) || readers?.has(node.name) || cause.units.includes(node.name),
  );
  const observerIndex = causes.findIndex(
    ({ cause }) =>
      cause.kind === "observer" &&
      readersOf(
        investigation,
        cause.units.flatMap((unit) => aliases(investigation, unit)),
      ).includes(node.name),
  );
  const worst = comparison.z.reduce((best, z, i) => (Math.abs(z) > Math.abs(comparison.z[best]!) ? i : best), 0);
  const row = comparison.rows[Math.floor(worst / comparison.columns.length)]!;
  const cause = index >= 0 ? index : observerIndex >= 0 ? observerIndex : null;
  const span = spanOf(investigation, node);
  return {
    unit: node.name,
    step: rows.steps[rows.stepOf[row]!]!.step,
    rmsZ: finite(statistics.rmsZ),
    maxZ: finite(statistics.maxZ),
    extent: extentOf(comparison, node),
    cause,
    ...(span && { span }),
    ...(cause === null && { nearest, record: toRecord(investigation, node) }),
  };
}

function seamFindings(causes: readonly AssembledCause[]): Finding[] {
  return causes.flatMap(({ cause, explains }, index) =>
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
}
