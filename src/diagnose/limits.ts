import calibration from "./calibration.json" with { type: "json" };
import type { Statistics } from "./statistics.js";

/** What a correct unit's statistics stay under. */
export interface Limits {
  readonly rmsZ: number;
  readonly maxZ: number;
  readonly rowGainZ: number;
  readonly columnGainZ: number;
  readonly columnOffsetZ: number;
}

/**
 * Limits from recordings of correct implementations: the worst value seen anywhere, times a margin (docs/noise.md).
 * They are no option: nothing a user sets moves a verdict.
 */
export const limits: Limits = calibration.limits;

/** Limits of one kind of op: what its correct implementations may share within a row or a column differs. */
const byKind: Partial<Record<string, Limits>> = calibration.limitsByKind;

/** How far beyond its limits a unit of an op kind stands: above 1 it fails. Infinite when one side is not finite. */
export function excess(s: Statistics, kind: string): number {
  if (s.nonFinite > 0) return Infinity;
  const own = byKind[kind] ?? limits;
  return Math.max(
    s.rmsZ / limits.rmsZ,
    s.maxZ / limits.maxZ,
    s.rowGainZ / own.rowGainZ,
    s.columnGainZ / own.columnGainZ,
    s.columnOffsetZ / own.columnOffsetZ,
  );
}
