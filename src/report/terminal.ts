import pc from "picocolors";
import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import { fullText } from "./full.js";
import type { ReportContext } from "./report-format.js";
import { screenText } from "./screen.js";
import { type Colors, wrap } from "./text.js";
import { allVisible } from "./visible-text.js";

/** How a verdict is written. */
export interface ReportStyle {
  readonly colors: boolean;
  /** All there is, instead of one screen. */
  readonly verbose?: boolean;
  /** Columns. */
  readonly width?: number;
  /** What was diagnosed, for the commands that come next; without it none are told. */
  readonly run?: ReportContext["run"];
}

/** A style with its defaults. */
export interface Page {
  readonly c: Colors;
  readonly width: number;
  readonly run?: ReportContext["run"];
}

/**
 * A verdict as text for a terminal or a log: on one screen what is wrong, where, by which evidence and what to do next;
 * with `verbose` all there is. Nothing that a recording holds acts on the terminal.
 */
export function renderVerdict(diagnosis: Diagnosis, style: ReportStyle): string {
  const text = style.verbose ? fullText : screenText;
  return `${text(allVisible(diagnosis), pageOf(style))}\n`;
}

/** From the first broken number to the token, a line each; empty when nothing is wrong. */
export function chainText({ chain }: Diagnosis, style: ReportStyle): string {
  const { width } = pageOf(style);
  return allVisible(chain)
    .map((line) => `${wrap(`- ${line}`, width, "  ")}\n`)
    .join("");
}

function pageOf({ colors, width = 100, run }: ReportStyle): Page {
  return { c: pc.createColors(colors), width: Math.min(Math.max(width, 60), 120), ...(run && { run }) };
}
