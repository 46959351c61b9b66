import type { Verdict } from "../diagnose/tell/verdict.js";
import { recordingWords } from "./recording-words.js";
import type { Page } from "./terminal.js";
import { wrap } from "./text.js";

/** What was read, and the verdict in a sentence. */
export function heading({ verdict, summary, recording }: Verdict, { c, width }: Page): string {
  const badge = { clean: c.green, fault: c.red, ambiguous: c.yellow, inconclusive: c.yellow }[verdict];
  const read = `${recording.path}: ${recordingWords(recording)}`;
  return `${c.dim(wrap(read, width, "", 2))}\n\n${wrap(`${c.bold(badge(verdict.toUpperCase()))}  ${summary}`, width, "", 2)}`;
}
