import { InputError } from "../tensor/errors.js";
import { htmlReport } from "./html/html-report.js";
import { junitReport } from "./junit.js";
import { markdownReport } from "./markdown.js";
import type { ReportFormat } from "./report-format.js";
import { sarifReport } from "./sarif.js";

/** Every kind of report file. */
export const reportFormats: readonly ReportFormat[] = [
  { id: "markdown", extensions: [".md", ".markdown"], write: markdownReport },
  { id: "junit", extensions: [".xml"], write: junitReport },
  { id: "sarif", extensions: [".sarif", ".sarif.json"], write: sarifReport },
  { id: "html", extensions: [".html", ".htm"], draws: true, write: htmlReport },
];

/**
 * The format that a file's name asks for.
 * @throws InputError for a name that asks for none.
 */
export function formatOf(file: string): ReportFormat {
  const name = file.toLowerCase();
  const found = reportFormats.find(({ extensions }) => extensions.some((extension) => name.endsWith(extension)));
  if (found) return found;
  const known = reportFormats.map(({ id, extensions }) => `${extensions.join(" or ")} (${id})`);
  throw new InputError(`--report: ${file}: expected a file name that ends in ${known.join(", ")}`);
}
