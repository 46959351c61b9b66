import type { CoverageSummary, RecipeSummary, RecordingSummary } from "../diagnose/tell/verdict.js";
import { count, percent, plural } from "./text.js";

/** What was read. */
export function recordingWords({ rows, sequences, steps, values, dtype, compute }: RecordingSummary): string {
  const precision = compute === "float32" ? dtype : `${dtype}, computed in ${compute}`;
  return `${plural(rows, "row")} of ${plural(sequences, "sequence")} in ${plural(steps, "step")}, ${values} recorded values, ${precision}`;
}

/** How a kind of unit rounds. */
export function recipeWords({ recipe, matched, of, kept, phases }: RecipeSummary): string {
  if (recipe === null) return "no recipe gives its bits";
  const inside = kept.length > 0 ? ", more digits kept inside" : "";
  return `${byPhase(recipe, phases)}${inside}${matched < of ? ` (${matched} of ${of})` : ""}`;
}

/** One recipe, or "prefill: …; decode: …" where phases have their own. */
function byPhase(common: string, phases: RecipeSummary["phases"]): string {
  const groups = new Map<string, string[]>();
  for (const { phase, recipe } of phases)
    groups.set(recipe ?? common, [...(groups.get(recipe ?? common) ?? []), phase]);
  if (groups.size < 2) return common;
  return [...groups].map(([recipe, those]) => `${those.join(", ")}: ${recipe}`).join("; ");
}

/** How much of the recording was looked at, and how. */
export function coverageWords({ of, compared, summed }: CoverageSummary): string {
  const rest = Math.max(0, of - compared - summed);
  const parts = [`${percent(compared / of)} of ${count(of)} elements compared one by one`];
  if (summed > 0) parts.push(`${percent(summed / of)} more in sums in which a wrong one stands out`);
  if (rest > 0) parts.push(`${percent(rest / of)} represented by a sample`);
  return parts.join(", ");
}
