import { role, short } from "./hypothesis.js";
import type { Investigation, UnitCheck } from "./investigation.js";
import type { UnitSummary } from "./verdict.js";

export function unchecked(
  investigation: Investigation,
  checks: readonly UnitCheck[],
): { value: string; why: string }[] {
  const out = [...investigation.capture.skipped, ...investigation.observations.unknown];
  for (const { node, statistics } of checks) {
    if (statistics.checked === 0)
      out.push({ value: node.name, why: "beyond the range of its types, or it rests on values nobody recorded" });
    else if (statistics.checked < statistics.total * 0.5) {
      out.push({
        value: node.name,
        why: `${short((100 * (statistics.total - statistics.checked)) / statistics.total)}% of its elements leave the range of its types`,
      });
    }
  }
  const recorded = new Set(checks.map(({ node }) => node.name));
  const never = [...investigation.graph.nodes.values()].filter(
    (node) => !recorded.has(node.name) && node.layer !== undefined && /^model\.layers\.\d+$/.test(node.name),
  );
  if (never.length > 0)
    out.push({
      value: `${never.length} layer outputs`,
      why: "not recorded: checked only as part of the units after them",
    });
  return out;
}

export function summaries(checks: readonly UnitCheck[]): UnitSummary[] {
  const byRole = new Map<string, UnitCheck[]>();
  for (const check of checks) byRole.set(role(check.node.name), [...(byRole.get(role(check.node.name)) ?? []), check]);
  return [...byRole].map(([unit, group]) => ({
    unit,
    count: group.length,
    rmsZ: Number(
      Math.sqrt(group.reduce((sum, { statistics }) => sum + statistics.rmsZ ** 2, 0) / group.length).toPrecision(4),
    ),
    worstRmsZ: Number(Math.max(...group.map(({ statistics }) => statistics.rmsZ)).toPrecision(4)),
    maxZ: Number(Math.max(...group.map(({ statistics }) => statistics.maxZ)).toPrecision(4)),
    failed: group.filter((check) => check.excess > 1).length,
  }));
}
