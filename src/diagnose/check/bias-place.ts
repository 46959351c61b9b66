import type { AllReduceAttributes } from "../../spec/ops/all-reduce.js";
import type { Investigation } from "./investigation.js";

/**
 * The bias of a product that is summed over ranks may be added by the first rank to its term or by all to the sum: the
 * terms and sums that were recorded tell.
 */
export function chooseBiasPlace(investigation: Investigation): Investigation {
  const biased = investigation.units().filter(({ op }) => {
    const { bias } = op.attributes as Partial<AllReduceAttributes>;
    return op.kind === "all-reduce" && bias !== undefined;
  });
  if (biased.length === 0) return investigation;
  const names = biased.flatMap(({ name, inputs }) => [name, inputs[0]!]);
  const failing = (seen: Investigation) =>
    names.filter((name) => seen.observations.has(name) && seen.check(name).excess > 1).length;
  const before = failing(investigation);
  if (before === 0) return investigation;
  const other = investigation.withBias("first");
  return failing(other) < before ? other : investigation;
}
