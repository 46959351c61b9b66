import { copyFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * Writes the golden paged recording as a runtime would have recorded it that exchanged the first two pages of a sequence in
 * its page table from a step on.
 * @param keep which values to take over.
 */
export function writePagedFault(out: string, from: number, steps: number, keep: (value: string) => boolean): string {
  const golden = "test/golden/paged_bf16";
  mkdirSync(out, { recursive: true });
  for (const file of readdirSync(golden))
    if (file !== "events.jsonl") copyFileSync(join(golden, file), join(out, file));
  const events = readFileSync(join(golden, "events.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  const kept = events.filter(({ event, step, name }) => step < steps && (event !== "value" || keep(name)));
  for (const { event, step, kv_indices: pages } of kept)
    if (event === "step" && step >= from) [pages[0], pages[1]] = [pages[1], pages[0]];
  writeFileSync(join(out, "events.jsonl"), `${kept.map((event) => JSON.stringify(event)).join("\n")}\n`);
  return out;
}
