import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { InputError } from "../tensor/errors.js";
import { parseJson } from "../tensor/json.js";
import type { Capture, ValueRecord } from "./capture.js";
import {
  type CaptureEvent,
  eventSchema,
  type Manifest,
  manifestSchema,
  type SampleEvent,
  type StepEvent,
  stepFileName,
  type ValueEvent,
} from "./format.js";
import { openPlainCapture } from "./plain.js";
import { StepFiles } from "./step-files.js";

const maxManifestBytes = 16 * 2 ** 20;
const maxLineBytes = 64 * 2 ** 20;

/**
 * Opens a recording: a capture directory (format version 1), a plain `.safetensors` file of module outputs, or a folder
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
    const steps: StepEvent[] = [];
    const samples: SampleEvent[] = [];
    const records: ValueRecord[] = [];
    const skipped: { value: string; why: string }[] = [];
    let order = 0;
    for (const { event, where } of readEvents(eventsPath)) {
      if (event.event === "step") {
        checkStep(event, where, steps);
        steps.push(event);
      } else if (event.event === "sample") samples.push(event);
      else {
        const record = files.locate(event as ValueEvent, where, order++);
        if (record) records.push(record);
        else
          skipped.push({
            value: `${event.name} (step ${event.step})`,
            why: `${stepFileName(event.step)} is missing or unfinished`,
          });
      }
    }
    if (steps.length === 0) throw new InputError(`${eventsPath}: expected at least one "step" event, found none`);
    if (records.length === 0)
      throw new InputError(`${eventsPath}: expected recorded values, found none that can be read`);
    return { path, kind: "faultline", manifest, steps, samples, records, skipped, close: () => files.close() };
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
  const parsed = manifestSchema.safeParse(json);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw new InputError(`${path}: ${issue.path.join(".") || "manifest"}: ${issue.message}`);
}

/** Complete lines of a file, in bounded memory; an unfinished last line (a crash while writing) is left out. */
function* readLines(path: string): Generator<{ text: string; number: number }> {
  const descriptor = openSync(path, "r");
  try {
    const chunk = Buffer.alloc(2 ** 20);
    let pending: Buffer[] = [];
    let pendingBytes = 0;
    let number = 0;
    for (;;) {
      const got = readSync(descriptor, chunk, 0, chunk.length, null);
      if (got === 0) return;
      let start = 0;
      for (let end = chunk.indexOf(10, start); end >= 0 && end < got; end = chunk.indexOf(10, start)) {
        const text = Buffer.concat([...pending, chunk.subarray(start, end)]).toString("utf8");
        pending = [];
        pendingBytes = 0;
        start = end + 1;
        number++;
        if (text.trim() !== "") yield { text, number };
      }
      if (start < got) {
        pending.push(Buffer.from(chunk.subarray(start, got)));
        pendingBytes += got - start;
        if (pendingBytes > maxLineBytes)
          throw new InputError(`${path}: line ${number + 1}: longer than ${maxLineBytes} bytes`);
      }
    }
  } finally {
    closeSync(descriptor);
  }
}

function* readEvents(path: string): Generator<{ event: CaptureEvent; where: string }> {
  for (const { text, number } of readLines(path)) {
    const where = `${path}: line ${number}`;
    const json = parseJson(text, where, "expected one JSON object per line");
    const parsed = eventSchema.safeParse(json);
    if (!parsed.success) throw new InputError(`${where}: ${eventIssue(json, parsed.error.issues)}`);
    yield { event: parsed.data, where };
  }
}

/** The issue of the schema that the event's kind names: a union reports one list per alternative. */
function eventIssue(
  json: unknown,
  issues: readonly { path: PropertyKey[]; message: string; errors?: unknown }[],
): string {
  const kind = (json as { event?: unknown } | null)?.event;
  if (kind !== "step" && kind !== "value" && kind !== "sample") return `event: expected "step", "value" or "sample"`;
  const alternatives = (issues[0] as { errors?: { path: PropertyKey[]; message: string }[][] }).errors ?? [];
  const paged = typeof (json as { view?: { pages?: unknown } }).view?.pages !== "undefined";
  const index = kind === "step" ? 0 : kind === "sample" ? 3 : paged ? 1 : 2;
  const issue = alternatives[index]?.[0] ?? issues[0]!;
  return `${issue.path.map(String).join(".") || "event"}: ${issue.message}`;
}

function checkStep(event: StepEvent, where: string, steps: readonly StepEvent[]): void {
  const previous = steps.at(-1);
  if (previous && event.step <= previous.step)
    throw new InputError(`${where}: step: expected a number above ${previous.step}, found ${event.step}`);
  const { qo_indptr: indptr, seq_ids: ids, token_ids: tokens } = event;
  if (ids.length === 0) throw new InputError(`${where}: seq_ids: expected at least one sequence`);
  if (new Set(ids).size !== ids.length) throw new InputError(`${where}: seq_ids: expected distinct ids`);
  if (indptr.length !== ids.length + 1)
    throw new InputError(`${where}: qo_indptr: expected ${ids.length + 1} numbers, found ${indptr.length}`);
  const ordered = indptr.every((n, i) => i === 0 || n >= indptr[i - 1]!);
  if (indptr[0] !== 0 || !ordered || indptr.at(-1) !== tokens.length) {
    throw new InputError(`${where}: qo_indptr: expected to rise from 0 to the ${tokens.length} tokens of token_ids`);
  }
}
