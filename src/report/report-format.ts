import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import type { DiagnoseOptions } from "../diagnose/street.js";
import type { RunView } from "./html/page-data.js";

/** What a report is written from besides the verdict. */
export interface ReportContext {
  /** What was diagnosed, as it was asked for: enough to open the recording again. */
  readonly run: Pick<DiagnoseOptions, "target" | "model" | "reference" | "quick" | "names">;
  /** The command line that gives this verdict again, word by word. */
  readonly command: readonly string[];
  /** Version of faultline. */
  readonly version: string;
  /** What is drawn of the run: there when a format that `draws` is asked for. */
  readonly view?: RunView | undefined;
}

/** A kind of report file. */
export interface ReportFormat {
  readonly id: string;
  /** File names end so; lower case, with the dot. */
  readonly extensions: readonly string[];
  /** Whether it shows elements of the recording, which are taken while its files are open. */
  readonly draws?: boolean;
  /** The whole file, or its pieces in order. Within its first 1,000 characters stands `reportMark`. */
  readonly write: (
    diagnosis: Diagnosis,
    context: ReportContext,
  ) => string | Promise<string> | AsyncIterable<string> | Iterable<string>;
}

/** By this a file is known to be a report of ours, which a newer one may replace. */
export const reportMark = "faultline report";
