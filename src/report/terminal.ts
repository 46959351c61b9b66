import pc from "picocolors";
import { ranges } from "../diagnose/check/extent.js";
import { spanText } from "../diagnose/check/span.js";
import type { Cause } from "../diagnose/explain/cause.js";
import type { NearestCause } from "../diagnose/explain/nearest-causes.js";
import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import type { Verdict } from "../diagnose/tell/verdict.js";
import { agreement } from "./agreement.js";
import { referenceText } from "./reference.js";
import { type Colors, count, percent, plural, section, wrap } from "./text.js";

/** How a verdict is written. */
export interface ReportStyle {
  readonly colors: boolean;
  /** Also print units, sensitivity and everything unchecked. */
  readonly verbose?: boolean;
  readonly width?: number;
}

/** A verdict as text for a terminal or a log: causes, chain, proof, audits, what is ruled out. */
export function renderVerdict(verdict: Diagnosis, style: ReportStyle): string {
  const c = pc.createColors(style.colors);
  const width = Math.min(Math.max(style.width ?? 100, 60), 120);
  const sections = [
    heading(verdict, c),
    causes(verdict, c, width),
    findings(verdict, c, width),
    verdict.reference ? referenceText(verdict.reference, c, width, style.verbose ?? false) : "",
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
    agreement(verdict, c),
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

function findings({ findings }: Verdict, c: Colors, width: number): string {
  const unexplained = findings.filter(({ cause }) => cause === null);
  const lines = unexplained.slice(0, 20).flatMap(({ unit, rmsZ, maxZ, extent, span, nearest = [], record = [] }) => {
    const where = [
      span && `somewhere in ${spanText(span)}, unrecorded`,
      extent.rows && `rows ${extent.rows}`,
      extent.heads && `heads ${extent.heads}`,
      extent.columns && `columns ${extent.columns}`,
      extent.holds,
    ].filter(Boolean);
    const found = `${unit}: rms z ${rmsZ ?? "infinite"}, max ${maxZ ?? "infinite"}${where.length > 0 ? `; ${where.join("; ")}` : ""}`;
    return [
      wrap(found, width, "  ", 4),
      ...nearest.map((candidate) => wrap(`near: ${nearestText(candidate)}`, width, "    ", 6)),
      ...(record.length > 0 ? [wrap(`to see further, record ${record.join(", ")}`, width, "    ", 6)] : []),
    ];
  });
  if (unexplained.length > 20) lines.push(`  and ${unexplained.length - 20} more`);
  return section(c, "Wrong, and nothing in the catalogue explains it", lines);
}

/** "norm-epsilon in model.layers.0.input_layernorm (…): 61% of the bits, 40% without it". */
function nearestText({ cause, site, statement, equal, equalWithout, errorsLeft }: NearestCause): string {
  const much =
    equal === undefined
      ? `leaves ${percent(errorsLeft ?? 1)} of the errors`
      : `gives ${percent(equal)} of the bits, ${percent(equalWithout ?? 0)} without it`;
  return `${cause} in ${site} (${statement}) ${much}`;
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
