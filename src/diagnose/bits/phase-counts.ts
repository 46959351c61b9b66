import type { Phase } from "../../spec/phase.js";

/** Elements that were compared, and those that are equal bit for bit, by the phase of their rows. */
export type PhaseCounts = Readonly<Partial<Record<Phase, { readonly compared: number; readonly equal: number }>>>;

/** @param equal elements of each row, and `compared` of them. */
export function countPhases(
  rows: Int32Array,
  phaseOf: (row: number) => Phase,
  equal: Int32Array,
  compared: Int32Array,
): PhaseCounts {
  let counts: PhaseCounts = {};
  rows.forEach((row, r) => {
    counts = addCounts(counts, { [phaseOf(row)]: { compared: compared[r]!, equal: equal[r]! } });
  });
  return counts;
}

/** Both counts together. */
export function addCounts(a: PhaseCounts = {}, b: PhaseCounts = {}): PhaseCounts {
  const sum: Record<string, { compared: number; equal: number }> = { ...a };
  for (const [phase, { compared, equal }] of Object.entries(b)) {
    const before = sum[phase] ?? { compared: 0, equal: 0 };
    sum[phase] = { compared: before.compared + compared, equal: before.equal + equal };
  }
  return sum;
}
