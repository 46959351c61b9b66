import { cpSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** The directories of a recording's ranks. */
export function ranksOf(run: string): string[] {
  return readdirSync(run)
    .filter((name) => name.startsWith("rank"))
    .sort()
    .map((name) => join(run, name));
}

/** The same recording, in a new folder within `copies`, by somebody who saw no term before it was summed. */
export function withoutTerms(run: string, copies: string): string {
  const copy = mkdtempSync(join(copies, "run-"));
  cpSync(run, copy, { recursive: true });
  for (const rank of ranksOf(copy)) {
    const path = join(rank, "events.jsonl");
    const lines = readFileSync(path, "utf8").split("\n");
    writeFileSync(path, lines.filter((line) => !line.includes('"partial"')).join("\n"));
  }
  return copy;
}
