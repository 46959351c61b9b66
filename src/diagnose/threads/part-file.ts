import { readFileSync, statSync, writeFileSync } from "node:fs";
import { z } from "zod";
import { digestOf } from "../../capture/digest.js";
import { InputError } from "../../tensor/errors.js";
import { parseJson } from "../../tensor/json.js";
import { type InvestigationSource, openInvestigation } from "../check/open-investigation.js";
import { checkAll } from "./check-all.js";
import { checkSchema, toJson } from "./check-schema.js";
import type { Share } from "./share.js";
import { toWire } from "./wire.js";

/** Largest part file that is read, in bytes, and most shares of one diagnosis. */
const maxBytes = 2 ** 28;
export const mostShares = 2 ** 12;

const digest = z.string().regex(/^[0-9a-f]{64}$/);

/** A file that `faultline diagnose --part` writes. */
export const partSchema = z
  .object({
    format: z.literal("faultline-part"),
    version: z.literal(1),
    recording: digest,
    model: digest,
    part: z.int().positive(),
    of: z.int().positive().max(mostShares),
    checks: z.array(checkSchema).max(2 ** 20),
  })
  .refine(({ part, of }) => part <= of, { path: ["part"], message: "expected at most `of`" });

/** What one share of a diagnosis found. */
export type Part = z.infer<typeof partSchema>;

/** What a part must be of to belong to a recording and its model. */
export function digestsOf({ target, model }: InvestigationSource): Pick<Part, "recording" | "model"> {
  return { recording: digestOf(typeof target === "string" ? [target] : target), model: digestOf([model]) };
}

/**
 * Checks one share of a recording's units and writes what it found to a new file.
 * @returns how many units it checked, of all.
 * @throws InputError when the recording or the model cannot be read, or the file is there already.
 */
export async function checkShare(
  source: InvestigationSource,
  share: Share,
  path: string,
  progress: (done: number) => void,
): Promise<{ checked: number; of: number }> {
  const { investigation, close } = openInvestigation(source);
  try {
    const { checks, end } = await checkAll(investigation, source, progress, share);
    end();
    const onWire = checks.map((check) => toJson(toWire(investigation, check)));
    const part = { format: "faultline-part", version: 1, ...digestsOf(source), ...share, checks: onWire };
    writeNew(path, JSON.stringify(part));
    return { checked: checks.length, of: investigation.units().length };
  } finally {
    close();
  }
}

/** @throws InputError when it is no part of a diagnosis. */
export function readPart(path: string): Part {
  let text: string;
  try {
    if (statSync(path).size > maxBytes) throw new InputError(`${path}: expected a part of at most ${maxBytes} bytes`);
    text = readFileSync(path, "utf8");
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError(
      `${path}: expected a part that faultline diagnose --part wrote, but there is no file that can be read`,
    );
  }
  const parsed = partSchema.safeParse(parseJson(text, path));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new InputError(`${path}: ${issue.path.map(String).join(".") || "part"}: ${issue.message}`);
}

function writeNew(path: string, text: string): void {
  try {
    writeFileSync(path, text, { flag: "wx" });
  } catch {
    throw new InputError(`${path}: expected a new file for the part, in a folder that can be written to`);
  }
}
