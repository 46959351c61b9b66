import Table from "cli-table3";
import type { ReferenceReport } from "../diagnose/reference/reference-report.js";
import type { ThreeWay } from "../diagnose/reference/three-way.js";
import { bareChars, type Colors, plural, section, wrap } from "./text.js";

/** Values that are listed where not all are: those at which something departs. */
const mostListed = 4;

/** What a reference run adds to a verdict, on a part of a screen. */
export function referenceScreen(report: ReferenceReport, c: Colors, width: number): string {
  const { values } = report;
  const departing = values.filter(({ state }) => state !== "same" && state !== "follows");
  const listed = departing.slice(0, mostListed);
  const lines = [wrap(report.summary, width, "  ", 2), besideWords(report, width)];
  if (listed.length > 0) lines.push(valueTable(listed, c));
  const left = departing.length - listed.length;
  const rest = `${plural(values.length - listed.length, listed.length > 0 ? "other value" : "value")}`;
  lines.push(
    `  ${rest}${left > 0 ? `, ${left} of them wrong in a run` : ", equal or apart by rounding alone"} (--verbose)`,
  );
  return section(c, "Beside the reference", lines);
}

/** How much the two runs have in common. */
function besideWords({ recording, verdict, causes, aligned }: ReferenceReport, width: number): string {
  const { rows, of, values, onlyInTarget, onlyInReference } = aligned;
  const by = causes.length > 0 ? `: ${causes.map(({ cause }) => cause).join(", ")}` : "";
  return wrap(
    `${recording.path}: ${verdict} by itself${by}; ${rows} of ${plural(of, "row")} have the same text there, ${plural(values, "value")} in common, ${onlyInTarget.length} only in the target, ${onlyInReference.length} only in the reference`,
    width,
    "  ",
  );
}

/** All that a reference run adds to a verdict. */
export function referenceText(report: ReferenceReport, c: Colors, width: number): string {
  const { summary, aligned, parting, firstDifference, values, fromTokens, notes } = report;
  const { differences, forks } = aligned;
  const lines = [wrap(summary, width, "  ", 2), besideWords(report, width)];
  if (differences.length > 0) lines.push(wrap(`target / reference: ${differences.join("; ")}`, width, "  "));
  for (const { sequence, position, target, reference } of forks)
    lines.push(`  sequence ${sequence} goes on with other tokens at position ${position}: ${target} / ${reference}`);
  if (!parting && firstDifference !== null)
    lines.push(wrap(`the first numbers that are not equal: ${firstDifference}, by rounding`, width, "  "));
  for (const note of notes) lines.push(wrap(`note: ${note}`, width, "  "));
  lines.push("", c.dim(wrap(legend, width, "  ")), valueTable(values, c));
  if (fromTokens && fromTokens.values.length > 0) lines.push("", ...streamLines(fromTokens, c));
  return section(c, "Beside the reference", lines);
}

/** One row a value: how far the two are apart, what of it came in, and each against the spec on its own inputs. */
function valueTable(values: readonly ThreeWay[], c: Colors): string {
  const table = new Table({
    head: ["value", "equal", "apart", "came in", "target", "reference", ""],
    style: { head: [], border: [], compact: true },
    chars: { ...bareChars, left: "  " },
    colAligns: ["left", "right", "right", "right", "right", "right", "left"],
  });
  for (const { unit, state, equal, difference, cameIn, target, reference } of values) {
    const word = state === "same" || state === "follows" ? c.green(state) : c.red(wordFor[state]);
    table.push([
      unit.replace(/^model\.(?=.)/, ""),
      `${Math.floor(equal * 100)}%`,
      number(difference),
      number(cameIn),
      number(target.error),
      number(reference.error),
      word,
    ]);
  }
  return table.toString().replace(/ +$/gm, "");
}

const legend =
  "apart: target from reference; came in: what of it their inputs cause; then each from the spec in float64 on its own inputs";

const wordFor = {
  target: "target wrong",
  reference: "reference wrong",
  both: "both wrong",
  shared: "wrong alike",
} as const;

function streamLines({ values, tokens }: NonNullable<ReferenceReport["fromTokens"]>, c: Colors) {
  return [
    c.dim("  away from the model in float64, run from the tokens: target / reference"),
    ...values.map(({ value, target, reference }) => `  ${value}: ${number(target)} / ${number(reference)}`),
    `  next token: target ${tokens.target ?? "not recorded"}, reference ${tokens.reference ?? "not recorded"}, float64 ${tokens.spec}`,
  ];
}

function number(x: number | null): string {
  if (x === null) return "-";
  return x === 0 ? "0" : x.toExponential(1).replace("e+", "e");
}
