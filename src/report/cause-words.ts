import type { ParameterValue } from "../diagnose/causes/hypothesis.js";
import { ranges } from "../diagnose/check/extent.js";
import type { Cause } from "../diagnose/explain/cause.js";
import { count, percent } from "./text.js";

/** "rows 3 to 5; columns 0 to 127; zeros stand there"; empty where all of a unit is wrong. */
export function extentWords({ rows, heads, columns, holds }: Partial<Cause["extent"]>): string {
  return [
    rows && `rows ${rows}`,
    heads && `heads ${heads}`,
    columns && `columns ${columns}`,
    holds && `${holds} stand there`,
  ]
    .filter(Boolean)
    .join("; ");
}

/** The first `most` units of a cause, and how many more there are. */
export function unitsWords({ units }: Cause, most: number): string {
  const rest = units.length - most;
  return rest > 0 ? `${units.slice(0, most).join(", ")} and ${rest} more` : units.join(", ");
}

/** How well a cause explains what was recorded, in elements whose bits come out or in units of rounding. */
export function evidenceWords({ evidence }: Cause): string {
  const { rmsZ, rmsZExplained, samples, equal, compared, equalWithout } = evidence;
  if (equal !== undefined && compared !== undefined) {
    const without = equalWithout === undefined ? "" : `; ${percent(equalWithout)} without it`;
    return `${count(equal)} of ${count(compared)} elements are bit for bit what this cause makes of them${without}`;
  }
  if (rmsZ !== null)
    return `rms z ${rmsZ} as the spec has it, ${rmsZExplained} with this cause in it, over ${samples} elements`;
  return `${samples} elements compared`;
}

/** "layers 3 to 27". */
export function layersWords(layers: readonly number[]): string {
  return `layer${layers.length > 1 ? "s" : ""} ${ranges(layers)}`;
}

/** Name and value of what was found out about a cause. */
export function parameterWords({ parameters }: Cause): [string, string][] {
  return Object.entries(parameters)
    .filter(([key]) => key !== "statement")
    .map(([key, value]) => [key, valueWords(value)]);
}

function valueWords(value: ParameterValue): string {
  if (typeof value === "number") return String(Number(value.toPrecision(6)));
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return `[${value.join(", ")}]`;
  const entries = Object.entries(value as Record<string, number>).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const shown = entries.slice(0, 6).map(([key, x]) => `${key}: ${x}`);
  return `{${shown.join(", ")}${entries.length > 6 ? `, and ${entries.length - 6} more` : ""}}`;
}
