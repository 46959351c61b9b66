import type { AllReduceAttributes } from "../../spec/ops/all-reduce.js";
import { roleOf } from "../../spec/site.js";
import type { Investigation } from "./investigation.js";

/**
 * The bias of a product that is summed over ranks may be added by the first rank to its term or by all to the sum: the
 * terms and sums that were recorded tell, kind by kind.
 */
export function chooseBiasPlace(investigation: Investigation): Investigation {
  const byRole = new Map<string, string[]>();
  for (const node of investigation.units()) {
    const { name, op, inputs } = node;
    const { bias } = op.attributes as Partial<AllReduceAttributes>;
    if (op.kind === "all-reduce" && bias !== undefined)
      byRole.set(roleOf(node), [...(byRole.get(roleOf(node)) ?? []), name, inputs[0]!]);
  }
  if (byRole.size === 0) return investigation;
  const other = investigation.withBiasFirst(new Set(byRole.keys()));
  const failing = (seen: Investigation, names: readonly string[]) =>
    names.filter((name) => seen.observations.has(name) && seen.check(name).excess > 1).length;
  const first = [...byRole].filter(([, names]) => failing(other, names) < failing(investigation, names));
  return first.length > 0 ? investigation.withBiasFirst(new Set(first.map(([role]) => role))) : investigation;
}
