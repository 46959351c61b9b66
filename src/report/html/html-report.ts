import type { Diagnosis } from "../../diagnose/reference/reference-report.js";
import type { ReportContext } from "../report-format.js";
import { pageDocument } from "./document.js";
import { pageData } from "./page-words.js";

/** A verdict as one HTML file that needs nothing else: docs/report.md. */
export function htmlReport(diagnosis: Diagnosis, context: ReportContext): string {
  if (!context.view) throw new Error("an HTML report shows elements: they are taken while the recording is open");
  return pageDocument(pageData(diagnosis, context, context.view));
}
