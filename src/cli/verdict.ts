import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import type { Verdict } from "../diagnose/tell/verdict.js";
import { progressLine } from "../report/progress.js";
import type { ReportContext } from "../report/report-format.js";
import { renderVerdict } from "../report/terminal.js";
import { visibleJson } from "../report/visible-text.js";
import { terminalStyle } from "./style.js";

const exitCodes: Record<Verdict["verdict"], number> = { clean: 0, fault: 1, ambiguous: 1, inconclusive: 3 };

/** How a verdict is printed. */
export interface VerdictOptions {
  readonly json?: boolean;
  readonly verbose?: boolean;
  /** Files for reports. */
  readonly report?: readonly string[];
}

/** Prints a verdict and sets the exit code that goes with it. */
export function show(
  verdict: Diagnosis,
  { json = false, verbose = false }: VerdictOptions,
  run: ReportContext["run"],
): void {
  process.stdout.write(json ? `${visibleJson(verdict)}\n` : renderVerdict(verdict, { ...terminalStyle(verbose), run }));
  process.exitCode = exitCodes[verdict.verdict];
}

/** Does something long with its progress on stderr. */
export async function withProgress<T>(work: (report: (stage: string, done: number) => void) => Promise<T>): Promise<T> {
  const { report, clear } = progressLine();
  try {
    return await work(report);
  } finally {
    clear();
  }
}
