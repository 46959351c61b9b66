import type { Verdict } from "../diagnose/tell/verdict.js";
import type { ReportContext } from "./report-format.js";
import { visible } from "./visible-text.js";

/** A command line as one types it. */
export function commandText(words: readonly string[]): string {
  return words.map(shellWord).join(" ");
}

function shellWord(word: string): string {
  const shown = visible(word);
  return /^[\w@%+=:,./*-]+$/.test(shown) ? shown : `'${shown.replaceAll("'", "'\\''")}'`;
}

/** The command that writes what the verdict accuses first as a test of its own; undefined where no unit alone shows it. */
export function reproCommandText({ causes, findings }: Verdict, run: ReportContext["run"]): string | undefined {
  const first = causes.find(({ latent }) => !latent);
  const isShown = first ? first.kind !== "observer" && first.cause !== "replica-differs" : findings.length > 0;
  // Someone else's dump has to be imported first.
  if (!isShown || run.names !== undefined) return undefined;
  return commandText(["faultline", "repro", ...[run.target].flat(), "--model", run.model, "--out", "repro"]);
}
