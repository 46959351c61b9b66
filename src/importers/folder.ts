import { readdirSync, statSync } from "node:fs";
import { InputError } from "../tensor/errors.js";

const maxFiles = 2 ** 17;

/** Whether a path is a folder. */
export function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Whether a path is a regular file. */
export function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

/**
 * Names in a folder, sorted; no path that a dump names is ever followed.
 * @throws InputError when it cannot be read, or holds more files than a dump has.
 */
export function namesIn(path: string): string[] {
  let names: string[];
  try {
    names = readdirSync(path).sort();
  } catch {
    throw new InputError(`${path}: expected a folder that can be read`);
  }
  if (names.length > maxFiles)
    throw new InputError(`${path}: expected at most ${maxFiles} files, found ${names.length}`);
  return names;
}
