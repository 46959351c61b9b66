import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { Option } from "commander";
import type { Diagnosis } from "../diagnose/reference/reference-report.js";
import type { OpenRuns } from "../diagnose/street.js";
import { formatOf, reportFormats } from "../report/formats.js";
import type { RunView } from "../report/html/page-data.js";
import { runView } from "../report/html/run-view.js";
import { checkReportFile, writeReportFile } from "../report/report-file.js";
import type { ReportContext } from "../report/report-format.js";
import { InputError } from "../tensor/errors.js";
import { detokenizer } from "./detokenizer.js";

const extensions = reportFormats.flatMap((format) => format.extensions.slice(0, 1)).join(", ");

/** `--report FILE`, as often as wanted. A new one for each command: commander keeps values in it. */
export function reportOption(): Option {
  return new Option(
    "--report <file>",
    `also write the verdict to a file, by its name: ${extensions}; may be repeated, an earlier report is replaced`,
  ).argParser((file: string, before: string[] | undefined) => [...(before ?? []), file]);
}

/**
 * Checks where reports are to go, before the work, and returns what writes them after it.
 * @param inputs files and folders that are read.
 * @throws InputError for a file that may not be written.
 */
export function preparedReports(files: readonly string[], inputs: readonly string[]): Reports {
  for (const [i, file] of files.entries()) {
    checkReportFile(file, inputs);
    if (files.findIndex((other) => resolve(other) === resolve(file)) < i)
      throw new InputError(`--report: ${file}: expected a file of its own for each report, found it twice`);
  }
  let view: RunView | undefined;
  return {
    look: (model) => {
      if (!files.some((file) => formatOf(file).draws)) return undefined;
      return ({ run }) => {
        view = runView(run, detokenizer(model));
      };
    },
    all: async (diagnosis, context) => {
      for (const file of files)
        await writeReportFile(file, await formatOf(file).write(diagnosis, { ...context, version: version(), view }));
    },
  };
}

/** Reports that are asked for. */
interface Reports {
  /** What takes the elements that they show, while the recording is open; undefined where they show none. */
  look(model: string): ((judged: OpenRuns) => void) | undefined;
  /** Writes them. */
  all(diagnosis: Diagnosis, context: Omit<ReportContext, "version" | "view">): Promise<void>;
}

/** Version of the program. */
export function version(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}
