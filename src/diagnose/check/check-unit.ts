import { cover, type Shares } from "./coverage.js";
import type { Investigation } from "./investigation.js";
import type { UnitCheck } from "./unit-check.js";

/** Checks a unit on its sample, then as far as it can be extended. */
export function checkUnit(investigation: Investigation, name: string, shares: Shares): UnitCheck {
  return cover(investigation, investigation.check(name), shares);
}
