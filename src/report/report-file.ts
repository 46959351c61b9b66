import { closeSync, openSync, readSync, realpathSync, renameSync, rmSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, dirname, join, resolve, sep } from "node:path";
import { InputError } from "../tensor/errors.js";
import { formatOf } from "./formats.js";
import { reportMark } from "./report-format.js";

/**
 * Whether a report may be written to a file, asked before the work and not after it: an earlier report is replaced, as a
 * compiler replaces its output; nothing else is.
 * @param inputs files and folders that are read.
 * @throws InputError for a name of no known format, a folder, an input, a file that is no report of ours, or no folder.
 */
export function checkReportFile(file: string, inputs: readonly string[]): void {
  formatOf(file);
  const refused = (expected: string) => new InputError(`--report: ${file}: ${expected}`);
  const folder = dirname(resolve(file));
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw refused("expected a file in a folder that exists");
  const known = statSync(file, { throwIfNoEntry: false });
  if (!known) return;
  if (!known.isFile()) throw refused("expected a file, found a folder or a device");
  const real = realpathSync(file);
  if (inputs.some((input) => isWithin(real, input)))
    throw refused("expected another file than those that are read, which would be overwritten");
  if (known.size > 0 && !isReport(file))
    throw refused("expected a new file or an earlier report, found another file there; nothing is overwritten");
}

function isWithin(real: string, input: string): boolean {
  const known = statSync(input, { throwIfNoEntry: false });
  if (!known) return false;
  const place = realpathSync(input);
  return real === place || real.startsWith(place + sep);
}

function isReport(file: string): boolean {
  const head = Buffer.alloc(4096);
  const opened = openSync(file, "r");
  try {
    return head.toString("utf8", 0, readSync(opened, head, 0, head.length, 0)).includes(reportMark);
  } finally {
    closeSync(opened);
  }
}

/**
 * Writes a file whole or not at all: beside its place, then renamed onto it.
 * @throws InputError when it cannot be written.
 */
export async function writeReportFile(
  file: string,
  pieces: string | AsyncIterable<string> | Iterable<string>,
): Promise<void> {
  const beside = join(dirname(file), `.${basename(file)}.${process.pid}.part`);
  try {
    const opened = await open(beside, "wx");
    try {
      for await (const piece of typeof pieces === "string" ? [pieces] : pieces) await opened.writeFile(piece);
    } finally {
      await opened.close();
    }
    renameSync(beside, file);
  } catch (error) {
    rmSync(beside, { force: true });
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new InputError(`--report: ${file}: expected a file that can be written (${(error as Error).message})`);
  }
}
