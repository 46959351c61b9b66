import { stripVTControlCharacters } from "node:util";
import Table from "cli-table3";
import colorette from "picocolors";
import { type CaptureComparison, type ComparedSide, type ComparedValue, isSame } from "../compare/compare.js";
import type { DType } from "../tensor/dtype.js";
import { bareChars } from "./text.js";
import { allVisible } from "./visible-text.js";

const shortTypes: Record<DType, string> = {
  float64: "f64",
  float32: "f32",
  float16: "f16",
  bfloat16: "bf16",
  float8_e4m3fn: "e4m3",
  float8_e5m2: "e5m2",
  int64: "i64",
  int32: "i32",
  int16: "i16",
  int8: "i8",
  uint8: "u8",
  bool: "bool",
};

const maxWidth = 120;
const longestName = 40;
const shortestName = 20;

export interface ComparisonTextOptions {
  readonly colors: boolean;
  /** Lists only the values that are not the same. */
  readonly differingOnly?: boolean | undefined;
}

/** The comparison as a table of at most 120 columns, in order of execution, with a summary below it. */
export function comparisonText(compared: CaptureComparison, options: ComparisonTextOptions): string {
  const comparison = allVisible(compared);
  const colors = colorette.createColors(options.colors);
  const lines = [`reference  ${comparison.reference}`, `target     ${comparison.target}`, ""];
  let table = valueTable(comparison, options, longestName);
  const excess = widthOf(table) - maxWidth;
  if (excess > 0) table = valueTable(comparison, options, Math.max(shortestName, longestName - excess));
  if (table) lines.push(table, "");
  lines.push(counts(comparison));
  const { first, worst, values } = comparison;
  if (first !== undefined) lines.push(...detail(first === worst ? "first and worst" : "first", values[first]!, colors));
  if (worst !== undefined && worst !== first) lines.push(...detail("worst", values[worst]!, colors));
  for (const { reference, notes } of comparison.steps)
    for (const note of notes) lines.push(`step ${reference.step}: ${note}`);
  const [ours, theirs] = comparison.stepCounts;
  if (ours !== theirs) lines.push(`steps: ${ours} / ${theirs}`);
  lines.push(...list("missing in target", comparison.missing), ...list("only in target", comparison.extra));
  for (const { side, value, why } of comparison.skipped) lines.push(`not read in ${side}: ${value}: ${why}`);
  if (values.some(({ state }) => state === "differs")) {
    lines.push(
      "",
      "noise is the error of one store on each side alone; a value also carries the errors of all before it, so an error of",
      "many times the noise need not be a fault. What is at fault: faultline diagnose TARGET --model DIR",
    );
  }
  return `${lines.join("\n")}\n`;
}

function valueTable(
  comparison: CaptureComparison,
  { colors: colored, differingOnly }: ComparisonTextOptions,
  nameWidth: number,
): string {
  const colors = colorette.createColors(colored);
  const paint = {
    same: colors.green,
    rounding: colors.green,
    relabelled: colors.yellow,
    differs: colors.red,
    shape: colors.red,
  };
  const head = ["value", "shape", "dtype", "max err", "at", "rel err", "noise", "×noise", "cosine", "state", ""];
  const table = new Table({
    head,
    chars: bareChars,
    style: { head: [], border: [], "padding-left": 0, "padding-right": 0 },
    colAligns: head.map((title) =>
      ["max err", "rel err", "noise", "×noise", "cosine"].includes(title) ? "right" : "left",
    ),
  });
  let step: number | undefined;
  let note = "";
  comparison.values.forEach((value, index) => {
    if (differingOnly && isSame(value)) return;
    if (comparison.stepCounts[0] > 1 && value.step !== step) {
      step = value.step;
      table.push([{ content: colors.bold(`step ${step}`), colSpan: head.length }]);
    }
    const mark = [index === comparison.first ? "first" : "", index === comparison.worst ? "worst" : ""].filter(Boolean);
    table.push([
      shortName(value, nameWidth),
      shapeText(value.reference.shape),
      typeText(value),
      number(value.maxAbsError),
      placeText(value.maxAt),
      number(value.relativeError),
      number(value.expectedNoise),
      timesText(value),
      cosineText(value.cosine),
      paint[value.state](value.state),
      colors.bold(mark.length === 2 ? "both" : (mark[0] ?? "")),
    ]);
    // A note that the row before has too (other strides throughout) is said once.
    const own = rowNotes(value);
    if (own !== "" && own !== note) table.push([{ content: colors.dim(`  ${own}`), colSpan: head.length }]);
    note = own;
  });
  const rows = table.toString().split("\n");
  return table.length === 0 ? "" : rows.map((row) => row.trimEnd()).join("\n");
}

/** Longest line of a text, colours not counted. Notes are left to wrap. */
function widthOf(text: string): number {
  const lines = stripVTControlCharacters(text).split("\n");
  return Math.max(0, ...lines.filter((line) => !line.startsWith("  ")).map((line) => line.length));
}

function rowNotes(value: ComparedValue): string {
  const notes = value.notes.filter((note) => !note.startsWith("dtype "));
  const { reference, target } = value;
  if (reference.nan + reference.infinite + target.nan + target.infinite > 0) {
    notes.push(`not finite: ${nonFiniteText(reference)} / ${nonFiniteText(target)}`);
  }
  if (value.state === "relabelled") notes.push("same values, other order");
  return notes.join("; ");
}

function nonFiniteText({ nan, infinite }: ComparedSide): string {
  return [nan ? `${nan} NaN` : "", infinite ? `${infinite} infinite` : ""].filter(Boolean).join(" ") || "none";
}

function counts({ values, missing, extra }: CaptureComparison): string {
  const count = (state: ComparedValue["state"]) => values.filter((value) => value.state === state).length;
  const parts = [
    `${count("same")} the same`,
    `${count("rounding")} within the rounding of their stores`,
    `${count("relabelled")} the same in another order`,
    `${count("differs")} different`,
    `${count("shape")} of other shape`,
  ].filter((part) => !part.startsWith("0 "));
  const unpaired = [
    missing.length ? `${missing.length} missing` : "",
    extra.length ? `${extra.length} only in the target` : "",
  ];
  return `${values.length} values: ${[...parts, ...unpaired.filter(Boolean)].join(", ")}`;
}

function detail(title: string, value: ComparedValue, colors: ReturnType<typeof colorette.createColors>): string[] {
  const { reference, target } = value;
  const lines = [`${colors.bold(title)}: ${value.name}, step ${value.step}, ${value.state}`];
  if (value.maxAt) {
    lines.push(
      `  ${value.differing} of ${value.elements} elements differ, ${value.beyondRounding} of them by more than their stores may`,
      `  largest error at [${value.maxAt}]: ${value.maxReference} / ${value.maxTarget}`,
    );
  }
  if (value.nonFiniteDiffering > 0) {
    lines.push(
      `  ${value.nonFiniteDiffering} elements are not finite on one side, the first at [${value.firstNonFiniteAt}]`,
    );
  }
  lines.push(
    `  digest in order ${reference.digest} / ${target.digest}, in any order ${reference.multisetDigest} / ${target.multisetDigest}`,
  );
  return lines;
}

function list(title: string, values: readonly { step: number; name: string }[]): string[] {
  if (values.length === 0) return [];
  const shown = values.slice(0, 8).map(({ step, name }) => (step === 0 ? name : `${name} (step ${step})`));
  const rest = values.length - shown.length;
  return [`${title}: ${shown.join(", ")}${rest > 0 ? ` and ${rest} more` : ""}`];
}

function shortName({ name, reference, target }: ComparedValue, nameWidth: number): string {
  const role = reference.role === "input" && target.role === "input" ? " (read)" : "";
  const bare = name.replace(/^model\.(?=.)/, "") + role;
  if (bare.length <= nameWidth) return bare;
  return `${bare.slice(0, 12)}…${bare.slice(bare.length - (nameWidth - 13))}`;
}

function shapeText(shape: readonly number[]): string {
  const long = shape.filter((n) => n !== 1);
  return long.length ? long.join("×") : "1";
}

function typeText({ reference, target }: ComparedValue): string {
  const [left, right] = [shortTypes[reference.dtype], shortTypes[target.dtype]];
  return left === right ? left : `${left}/${right}`;
}

function placeText(index: readonly number[] | undefined): string {
  if (!index) return "";
  const inner = index.length > 2 && index[0] === 0 ? index.slice(1) : index;
  return inner.join(",");
}

function number(value: number): string {
  if (Number.isNaN(value)) return "";
  if (value === 0) return "0";
  if (!Number.isFinite(value)) return "inf";
  return value.toExponential(1).replace("e+", "e");
}

function timesText({ timesNoise, nonFiniteDiffering }: ComparedValue): string {
  if (nonFiniteDiffering > 0) return "inf";
  if (Number.isNaN(timesNoise)) return "";
  return timesNoise > 0 && timesNoise < 999.5 ? timesNoise.toPrecision(timesNoise < 10 ? 2 : 3) : number(timesNoise);
}

function cosineText(cosine: number | undefined): string {
  return cosine === undefined ? "" : cosine.toFixed(5);
}
