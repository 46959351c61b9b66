import Table from "cli-table3";
import type { ReferenceReport } from "../diagnose/reference/reference-report.js";
import type { ThreeWay } from "../diagnose/reference/three-way.js";
import { bareChars, type Colors, plural, section, wrap } from "./text.js";

/** Values that are listed unless all are asked for: those at which something departs, and as many others. */
const mostListed = 12;

/** What a reference run adds to a verdict, as text. */
export function referenceText(report: ReferenceReport, c: Colors, width: number, verbose: boolean): string {
  const { summary, recording, verdict, causes, aligned, parting, firstDifference, values, fromTokens, notes } = report;
  const { rows, of, values: common, differences, forks, onlyInTarget, onlyInReference } = aligned;
  const lines = [
    wrap(summary, width, "  ", 2),
    wrap(
      `${recording.path}: ${verdict} by itself${causes.length > 0 ? `: ${causes.map(({ cause }) => cause).join(", ")}` : ""}; ${rows} of ${plural(of, "row")} have the same text there, ${plural(common, "value")} in common, ${onlyInTarget.length} only in the target, ${onlyInReference.length} only in the reference`,
      width,
      "  ",
    ),
  ];
  if (differences.length > 0) lines.push(wrap(`target / reference: ${differences.join("; ")}`, width, "  "));
  for (const { sequence, position, target, reference } of forks.slice(0, 4))
    lines.push(`  sequence ${sequence} goes on with other tokens at position ${position}: ${target} / ${reference}`);
  if (!parting && firstDifference !== null)
    lines.push(wrap(`the first numbers that are not equal: ${firstDifference}, by rounding`, width, "  "));
  for (const note of notes) lines.push(wrap(`note: ${note}`, width, "  "));
  lines.push("", valueTable(values, c, verbose));
  if (fromTokens && fromTokens.values.length > 0) lines.push("", ...streamLines(fromTokens, c, verbose));
  return section(c, "Beside the reference", lines);
}

/** One row a value: how far the two are apart, what of it came in, and each against the spec on its own inputs. */
function valueTable(values: readonly ThreeWay[], c: Colors, verbose: boolean): string {
  const departing = values.filter(({ state }) => state !== "same" && state !== "follows");
  const others = values.filter((value) => !departing.includes(value));
  const spread = Math.max(1, Math.ceil(others.length / mostListed));
  const chosen = new Set([...departing.slice(0, mostListed), ...others.filter((_, i) => i % spread === 0)]);
  const listed = verbose ? values : values.filter((value) => chosen.has(value));
  const table = new Table({
    head: ["value", "equal", "apart", "came in", "target", "reference", ""],
    style: { head: [], border: [], compact: true },
    chars: { ...bareChars, left: "  " },
    colAligns: ["left", "right", "right", "right", "right", "right", "left"],
  });
  for (const { unit, state, equal, difference, cameIn, target, reference } of listed) {
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
  const rest = values.length - listed.length;
  const legend = c.dim(
    "  apart: target from reference; came in: what of it their inputs cause; then each from the spec in float64 on its own inputs",
  );
  return `${legend}\n${table.toString()}${rest > 0 ? `\n  and ${rest} more (--verbose)` : ""}`;
}

const wordFor = {
  target: "target wrong",
  reference: "reference wrong",
  both: "both wrong",
  shared: "wrong alike",
} as const;

function streamLines({ values, tokens }: NonNullable<ReferenceReport["fromTokens"]>, c: Colors, verbose: boolean) {
  const spread = verbose ? 1 : Math.max(1, Math.ceil(values.length / 6));
  const last = values.length - 1;
  const shown = values.filter((_, i) => i === last || i % spread === 0);
  return [
    c.dim("  away from the model in float64, run from the tokens: target / reference"),
    ...shown.map(({ value, target, reference }) => `  ${value}: ${number(target)} / ${number(reference)}`),
    `  next token: target ${tokens.target ?? "not recorded"}, reference ${tokens.reference ?? "not recorded"}, float64 ${tokens.spec}`,
  ];
}

function number(x: number | null): string {
  if (x === null) return "-";
  return x === 0 ? "0" : x.toExponential(1).replace("e+", "e");
}
