import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { InputError } from "../tensor/errors.js";
import { parseJson } from "../tensor/json.js";
import type { Capture, ValueRecord } from "./capture.js";
import { readEvents } from "./events.js";
import {
  type Manifest,
  manifestSchema,
  rankedManifestSchema,
  type SampleEvent,
  stepFileName,
  type ValueEvent,
} from "./format.js";
import { paddingsOf } from "./padding.js";
import { openPlainCapture } from "./plain.js";
import { StepFiles } from "./step-files.js";
import { StepLists } from "./step-lists.js";

const maxManifestBytes = 16 * 2 ** 20;

/**
 * Opens a recording: a capture directory, of one rank or several, a plain `.safetensors` file of module outputs, or a folder
 * that holds one such file and no manifest.
 * @throws InputError naming the file, the field and what was expected.
 */
export function openCapture(path: string): Capture {
  if (!existsSync(path)) throw new InputError(`${path}: no such file or directory; expected a capture`);
  if (!statSync(path).isDirectory()) return openPlainCapture(path);
  if (existsSync(join(path, "manifest.json"))) return openDirectory(path);
  const plain = readdirSync(path).filter((name) => name.endsWith(".safetensors"));
  if (plain.length === 1) return openPlainCapture(join(path, plain[0]!));
  throw new InputError(
    `${path}: expected a capture directory with manifest.json, or one .safetensors file of module outputs; found ${plain.length} of the latter`,
  );
}

function openDirectory(path: string): Capture {
  const manifest = readManifest(join(path, "manifest.json"));
  const eventsPath = join(path, "events.jsonl");
  expectFile(eventsPath, "the capture's events");
  const files = new StepFiles(path);
  try {
    const steps = new StepLists(manifest);
    const samples: SampleEvent[] = [];
    const records: ValueRecord[] = [];
    const skipped: { value: string; why: string }[] = [];
    let order = 0;
    for (const { event, where } of readEvents(eventsPath, manifest.version)) {
      if (event.event === "step") steps.add(event, where);
      else if (event.event === "sample") samples.push(event);
      else {
        const rank = steps.rankOf(event as ValueEvent, where);
        const record = files.locate(event as ValueEvent, where, order++, rank);
        if (record) records.push(record);
        else
          skipped.push({
            value: `${event.name} (step ${event.step})`,
            why: `${stepFileName(event.step)} is missing or unfinished`,
          });
      }
    }
    if (steps.first.length === 0) throw new InputError(`${eventsPath}: expected at least one "step" event, found none`);
    if (records.length === 0)
      throw new InputError(`${eventsPath}: expected recorded values, found none that can be read`);
    const ranks = steps.ranked(eventsPath);
    const paddings = paddingsOf(steps.first, eventsPath);
    const read = { path, kind: "faultline" as const, manifest, steps: steps.first, samples, records, skipped };
    return { ...read, ...(ranks && { ranks }), paddings, close: () => files.close() };
  } catch (error) {
    files.close();
    throw error;
  }
}

/** @throws InputError unless `path` is a regular file that may be read: a pipe would block, a folder fail half-way. */
function expectFile(path: string, what: string): void {
  try {
    if (statSync(path).isFile()) return accessSync(path, constants.R_OK);
  } catch {
    throw new InputError(`${path}: expected ${what}, but there is no file that can be read`);
  }
  throw new InputError(`${path}: expected ${what}, found a directory or device`);
}

function readManifest(path: string): Manifest {
  expectFile(path, "the capture's manifest");
  if (statSync(path).size > maxManifestBytes)
    throw new InputError(`${path}: expected at most ${maxManifestBytes} bytes`);
  const json = parseJson(readFileSync(path, "utf8"), path);
  const ranked = (json as { version?: unknown } | null)?.version === 2;
  const parsed = (ranked ? rankedManifestSchema : manifestSchema).safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new InputError(`${path}: ${issue.path.join(".") || "manifest"}: ${issue.message}`);
}
