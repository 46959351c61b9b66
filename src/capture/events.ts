import { closeSync, openSync, readSync } from "node:fs";
import { InputError } from "../tensor/errors.js";
import { parseJson } from "../tensor/json.js";
import { type CaptureEvent, eventSchema, rankedEventSchema } from "./format.js";

const maxLineBytes = 64 * 2 ** 20;

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

/**
 * The events of a capture, in order, each with the file and line it stands in.
 * @param version of the capture's manifest: fields of a later one mean nothing in an earlier one.
 * @throws InputError naming line and field.
 */
export function* readEvents(path: string, version: 1 | 2): Generator<{ event: CaptureEvent; where: string }> {
  const schema = version === 2 ? rankedEventSchema : eventSchema;
  for (const { text, number } of readLines(path)) {
    const where = `${path}: line ${number}`;
    const json = parseJson(text, where, "expected one JSON object per line");
    const parsed = schema.safeParse(json);
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
