import Table from "cli-table3";
import pc from "picocolors";
import { ranges } from "../diagnose/extent.js";
import type { Cause, RecipeSummary, Verdict } from "../diagnose/verdict.js";

/** How a verdict is written. */
export interface ReportStyle {
  readonly colors: boolean;
  /** Also print units, sensitivity and everything unchecked. */
  readonly verbose?: boolean;
  readonly width?: number;
}

type Colors = ReturnType<typeof pc.createColors>;

/** A verdict as text for a terminal or a log: causes, chain, proof, audits, what is ruled out. */
export function renderVerdict(verdict: Verdict, style: ReportStyle): string {
  const c = pc.createColors(style.colors);
  const width = Math.min(Math.max(style.width ?? 100, 60), 120);
  const sections = [
    heading(verdict, c),
    causes(verdict, c, width),
    findings(verdict, c),
    section(
      c,
      "From cause to symptom",
      verdict.chain.map((line) => wrap(`- ${line}`, width, "  ")),
    ),
    proof(verdict, c, width),
    section(
      c,
      "Audits",
      Object.entries(verdict.audits).map(([name, { pass, evidence }]) =>
        wrap(`${pass ? c.green("pass") : c.red("FAIL")}  ${name.padEnd(8)} ${evidence}`, width, "  ", 15),
      ),
    ),
    section(
      c,
      "Ruled out",
      verdict.ruledOut.map(({ suspect, evidence }) => wrap(`- ${suspect}: ${evidence}`, width, "  ")),
    ),
    units(verdict, c),
    sensitivity(verdict, c, width, style.verbose ?? false),
    unchecked(verdict, c, width, style.verbose ?? false),
  ];
  return `${sections.filter((text) => text !== "").join("\n\n")}\n`;
}

function heading({ verdict, summary, recording }: Verdict, c: Colors): string {
  const badge = { clean: c.green, fault: c.red, ambiguous: c.yellow, inconclusive: c.yellow }[verdict];
  const { path, rows, sequences, steps, values, dtype, compute } = recording;
  const precision = compute === "float32" ? dtype : `${dtype}, computed in ${compute}`;
  return `${c.dim(`${path}: ${plural(rows, "row")} of ${plural(sequences, "sequence")} in ${plural(steps, "step")}, ${values} recorded values, ${precision}`)}\n\n${c.bold(badge(verdict.toUpperCase()))}  ${summary}`;
}

function causes({ causes }: Verdict, c: Colors, width: number): string {
  return causes.map((cause, index) => renderCause(cause, index, c, width)).join("\n\n");
}

function renderCause(cause: Cause, index: number, c: Colors, width: number): string {
  const { rmsZ, rmsZExplained, samples, equal, compared, equalWithout } = cause.evidence;
  const lines = [
    `${c.bold(`${index + 1}  ${cause.cause}`)}  ${c.dim(`${cause.kind}, ${cause.transform}`)}${cause.latent ? c.yellow("  latent") : ""}`,
    wrap(cause.statement, width, "   "),
  ];
  const seen =
    cause.units.length > 4
      ? `${cause.units.slice(0, 4).join(", ")} and ${cause.units.length - 4} more`
      : cause.units.join(", ");
  lines.push(wrap(`seen in  ${seen}`, width, "   ", 12));
  const { rows, heads, columns, holds } = cause.extent;
  const extent = [
    rows && `rows ${rows}`,
    heads && `heads ${heads}`,
    columns && `columns ${columns}`,
    holds && `${holds} stand there`,
  ].filter(Boolean);
  if (extent.length > 0) lines.push(wrap(`extent   ${extent.join("; ")}`, width, "   ", 12));
  const values = Object.entries(cause.parameters).filter(([key]) => !["statement"].includes(key));
  if (values.length > 0)
    lines.push(
      wrap(`found    ${values.map(([key, value]) => `${key} = ${parameter(value)}`).join("; ")}`, width, "   ", 12),
    );
  if (equal !== undefined && compared !== undefined) {
    const without = equalWithout === undefined ? "" : `; ${percent(equalWithout)} without it`;
    lines.push(
      `   evidence ${count(equal)} of ${count(compared)} elements are bit for bit what this cause makes of them${without}`,
    );
  } else if (rmsZ !== null)
    lines.push(
      `   evidence rms z ${rmsZ} as the spec has it, ${rmsZExplained} with this cause in it, over ${samples} elements`,
    );
  else lines.push(`   evidence ${samples} elements compared`);
  for (const { layers, why } of cause.notVisible ?? [])
    lines.push(wrap(`hidden   in layer${layers.length > 1 ? "s" : ""} ${ranges(layers)}: ${why}`, width, "   ", 12));
  if (cause.alternatives.length > 0)
    lines.push(
      wrap(`${c.yellow("or")}       ${cause.alternatives.join(", ")}; to tell: ${cause.separate}`, width, "   ", 12),
    );
  return lines.join("\n");
}

function parameter(value: Cause["parameters"][string]): string {
  if (typeof value === "number") return String(Number(value.toPrecision(6)));
  if (typeof value === "string") return value;
  if (Array.isArray(value)) return `[${value.join(", ")}]`;
  const entries = Object.entries(value as Record<string, number>).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  const shown = entries.slice(0, 6).map(([key, x]) => `${key}: ${x}`);
  return `{${shown.join(", ")}${entries.length > 6 ? `, and ${entries.length - 6} more` : ""}}`;
}

function findings({ findings }: Verdict, c: Colors): string {
  const unexplained = findings.filter(({ cause }) => cause === null);
  const lines = unexplained.slice(0, 20).map(({ unit, rmsZ, maxZ, extent }) => {
    const where = [
      extent.rows && `rows ${extent.rows}`,
      extent.heads && `heads ${extent.heads}`,
      extent.columns && `columns ${extent.columns}`,
      extent.holds,
    ].filter(Boolean);
    return `  ${unit}: rms z ${rmsZ ?? "infinite"}, max ${maxZ ?? "infinite"}${where.length > 0 ? `; ${where.join("; ")}` : ""}`;
  });
  if (unexplained.length > 20) lines.push(`  and ${unexplained.length - 20} more`);
  return section(c, "Wrong, and nothing in the catalogue explains it", lines);
}

function proof({ proof, causes, verdict }: Verdict, c: Colors, width: number): string {
  const { reproduced, necessity, fromTokens, repair, notes } = proof;
  const lines: string[] = [];
  const all =
    causes.length === 0
      ? "the spec as it is"
      : causes.length === 1
        ? "the cause in the spec"
        : "all causes in the spec";
  lines.push(`  ${all}: ${reproduced.matched} of ${reproduced.of} units match what was recorded`);
  for (const { without, matched } of necessity) {
    lines.push(`  without ${without + 1} (${causes[without]!.cause}): ${matched} of ${reproduced.of}`);
  }
  if (fromTokens && verdict !== "clean") {
    const { layers, reproducedToken, recordedToken, text } = fromTokens;
    const same = reproducedToken === recordedToken ? "the recorded token" : `not the recorded ${recordedToken}`;
    lines.push(
      wrap(
        `run again from its tokens with them: ${layers.matched} of ${layers.of} layer outputs show the recorded magnitude, token ${reproducedToken}${text === null ? "" : ` ${JSON.stringify(text)}`}, ${same}`,
        width,
        "  ",
      ),
    );
  }
  if (repair) {
    const said = repair.continuation ?? repair.text;
    lines.push(
      wrap(
        `${causes.length > 0 ? "all of them removed" : "the model"}: token ${repair.tokenId}${said === null ? "" : ` ${JSON.stringify(said)}`}`,
        width,
        "  ",
      ),
    );
  }
  for (const note of notes) lines.push(wrap(`note: ${note}`, width, "  "));
  return section(c, "Proof", lines);
}

/** 0.99987 as 99.98%: never rounded up to what it is not. */
function percent(share: number): string {
  return `${(Math.floor(share * 10_000) / 100).toFixed(share === 1 ? 0 : 2)}%`;
}

function count(n: number): string {
  return n.toLocaleString("en");
}

function units({ units, recipes }: Verdict, c: Colors): string {
  const table = new Table({
    head: ["unit", "count", "bit for bit", "rms z", "max |z|", "failed", "rounds as"],
    style: { head: [], border: [], compact: true },
    chars: {
      top: "",
      "top-mid": "",
      "top-left": "",
      "top-right": "",
      bottom: "",
      "bottom-mid": "",
      "bottom-left": "",
      "bottom-right": "",
      left: " ",
      "left-mid": "",
      mid: "",
      "mid-mid": "",
      right: "",
      "right-mid": "",
      middle: " ",
    },
    colAligns: ["left", "right", "right", "right", "right", "right", "left"],
  });
  const byUnit = new Map(recipes.map((recipe) => [recipe.unit, recipe]));
  for (const { unit, count, rmsZ, maxZ, failed, equal } of units) {
    const recipe = byUnit.get(unit);
    table.push([
      unit,
      count,
      equal === null ? "" : percent(equal),
      number(rmsZ),
      number(maxZ),
      failed > 0 ? c.red(String(failed)) : "0",
      recipe ? recipeName(recipe) : "",
    ]);
  }
  const departing = recipes.flatMap(({ unit, departing: layers }) =>
    layers.length > 0
      ? [`  ${unit}: layer${layers.length > 1 ? "s" : ""} ${ranges(layers)} round otherwise than the others`]
      : [],
  );
  return section(c, "Agreement by kind of unit (z: error in units of its rounding; about 1 or less is right)", [
    table.toString(),
    ...departing,
    ...roundings(recipes, c),
  ]);
}

function recipeName({ recipe, matched, of, kept }: RecipeSummary): string {
  if (recipe === null) return "no recipe gives its bits";
  const inside = kept.length > 0 ? ", more digits kept inside" : "";
  return `${recipe}${inside}${matched < of ? ` (${matched} of ${of})` : ""}`;
}

/** What each recipe means, and who is known to round so. */
function roundings(recipes: readonly RecipeSummary[], c: Colors): string[] {
  const seen = new Map(recipes.filter(({ recipe }) => recipe !== null).map((recipe) => [recipe.recipe!, recipe]));
  return [...seen.values()].map(({ recipe, title, known }) =>
    c.dim(`  ${recipe}: ${title}${known.length > 0 ? ` (${known.join(", ")})` : ""}`),
  );
}

function number(x: number): string {
  return x < 1000 ? x.toFixed(2) : x.toExponential(1);
}

function sensitivity({ notVisible }: Verdict, c: Colors, width: number, verbose: boolean): string {
  if (notVisible.length === 0) return "";
  if (verbose)
    return section(
      c,
      "Faults this recording could not have shown",
      notVisible.map(({ cause, why }) => wrap(`- ${cause}: ${why}`, width, "  ")),
    );
  const names = [...new Set(notVisible.map(({ cause }) => cause))];
  return section(c, "Faults this recording could not have shown in some unit (--verbose says why)", [
    wrap(names.join(", "), width, "  "),
  ]);
}

function unchecked({ unchecked }: Verdict, c: Colors, width: number, verbose: boolean): string {
  const shown = verbose ? unchecked : unchecked.slice(0, 6);
  const lines = shown.map(({ value, why }) => wrap(`- ${value}: ${why}`, width, "  "));
  if (unchecked.length > shown.length) lines.push(`  and ${unchecked.length - shown.length} more (--verbose)`);
  return section(c, "Unchecked", lines);
}

function section(c: Colors, title: string, lines: readonly string[]): string {
  return lines.length === 0 ? "" : `${c.bold(title)}\n${lines.join("\n")}`;
}

function plural(n: number, noun: string): string {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

/** Breaks text at spaces; continuation lines are indented by `hang` more. Colour codes do not count as width. */
function wrap(text: string, width: number, indent: string, hang = indent.length + 2): string {
  const lines: string[] = [];
  let line = indent;
  let length = indent.length;
  for (const word of text.split(" ")) {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: escape codes begin with one
    const visible = word.replace(/\u001b\[\d+m/g, "").length;
    if (length + visible + 1 > width && length > hang) {
      lines.push(line);
      line = " ".repeat(hang);
      length = hang;
    }
    const gap = line.endsWith(" ") && line.trim() === "" ? "" : " ";
    line += line === indent || gap === "" ? word : ` ${word}`;
    length += visible + 1;
  }
  lines.push(line);
  return lines.join("\n");
}
