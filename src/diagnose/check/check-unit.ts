import type { Investigation } from "../investigation.js";
import { cover } from "./coverage.js";
import type { UnitCheck } from "./unit-check.js";

/**
 * Checks a unit on its sample, then as far as it can be extended.
 * @param share of the rows of units whose elements cost little that there is time for.
 */
export function checkUnit(investigation: Investigation, name: string, share: number): UnitCheck {
  return cover(investigation, investigation.check(name), share);
}
