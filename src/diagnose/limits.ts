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

/** Units with a matrix product in them share the rounding of an operand among all columns of a row; others do not. */
export type UnitClass = "product" | "other";

export function unitClass(opKinds: Iterable<string>): UnitClass {
  for (const kind of opKinds) if (kind === "linear" || kind === "attention") return "product";
  return "other";
}

/** How far beyond its limits a unit stands: above 1 it fails. Infinite when one side is not finite. */
export function excess(s: Statistics, of: UnitClass): number {
  if (s.nonFinite > 0) return Infinity;
  const own: Limits = calibration.limitsByClass[of];
  return Math.max(
    s.rmsZ / limits.rmsZ,
    s.maxZ / limits.maxZ,
    s.rowGainZ / own.rowGainZ,
    s.columnGainZ / own.columnGainZ,
    s.columnOffsetZ / own.columnOffsetZ,
  );
}
