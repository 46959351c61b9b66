import type { Diagnosis } from "../../src/diagnose/reference/reference-report.js";

/** Words that a verdict is told by: no recording has a say in them. */
const ours = new Set(["verdict", "cause", "kind", "transform", "outcome", "runnerUp", "alternatives"]);

/** A diagnosis with a text put before all that a recording may have a say in: names, sentences, texts. */
export function hostileDiagnosis(diagnosis: Diagnosis, text: string): Diagnosis {
  const spoil = (value: unknown, key = ""): unknown => {
    if (typeof value === "string") return ours.has(key) ? value : `${text} ${value}`;
    if (Array.isArray(value)) return value.map((inner) => spoil(inner, key));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, spoil(inner, name)]));
  };
  return spoil(diagnosis) as Diagnosis;
}
