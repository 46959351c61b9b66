import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Capture } from "../capture/capture.js";
import { openRun, type RunPath } from "../capture/ranks.js";
import { InputError } from "../tensor/errors.js";
import type { Dump } from "./dump.js";
import { isFile, isFolder, namesIn } from "./folder.js";
import { dumpFormats } from "./formats/table.js";
import { namedCapture } from "./named-capture.js";
import type { NameMap } from "./names-file.js";

/**
 * Opens a recording: our own, or with names someone else's.
 * @throws InputError naming the file, the field and what was expected.
 */
export function openRecording(target: RunPath, names?: NameMap): Capture {
  return names ? namedCapture(openDump(onePath(target)), names) : openRun(target);
}

/**
 * Opens a recording in someone else's format.
 * @throws InputError when it is of no known format, or cannot be read.
 */
export function openDump(path: string): Dump {
  if (!existsSync(path)) throw new InputError(`${path}: no such file or directory; expected a recording`);
  const format = dumpFormats.find(({ claims }) => claims(path));
  if (format) {
    const dump = format.open(path);
    if (dump.tensors.length === 0) throw new InputError(`${path}: expected recorded tensors, found none`);
    return dump;
  }
  throw new InputError(
    `${path}: expected a recording of one of these kinds: ${dumpFormats.map(({ title }) => title).join(", ")}`,
  );
}

/** Whether a path is in someone else's format: neither a capture directory nor a plain recording of module outputs. */
export function isForeign(target: RunPath): boolean {
  const [path, ...others] = typeof target === "string" ? [target] : target;
  if (path === undefined || others.length > 0 || !existsSync(path)) return false;
  if (isFolder(path))
    return !existsSync(join(path, "manifest.json")) && !namesIn(path).some((name) => name.endsWith(".safetensors"));
  return isFile(path) && !path.endsWith(".safetensors");
}

function onePath(target: RunPath): string {
  const [path, ...others] = typeof target === "string" ? [target] : target;
  if (path === undefined || others.length > 0)
    throw new InputError(`expected one recording beside a file of names, found ${others.length + 1}`);
  return path;
}
