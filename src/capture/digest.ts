import { createHash, type Hash } from "node:crypto";
import { closeSync, existsSync, openSync, readdirSync, readSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { InputError } from "../tensor/errors.js";

/** Files up to this size are read whole, of larger ones an even spread of blocks and both ends. */
const wholeBytes = 16 * 2 ** 20;
const blockBytes = 2 ** 12;
const blocksOfLarge = 1024;

/**
 * What tells one recording, or one model folder, from another: SHA-256 over the names, sizes and bytes of its files, of
 * large files over an even spread of blocks. The order of several paths does not matter.
 * @throws InputError when a path is not there.
 */
export function digestOf(paths: readonly string[]): string {
  const each = paths.map((path) => {
    const hash = createHash("sha256");
    for (const file of filesOf(path)) addFile(hash, file);
    return hash.digest("hex");
  });
  return createHash("sha256").update(each.sort().join()).digest("hex");
}

function filesOf(path: string): string[] {
  if (!existsSync(path)) throw new InputError(`${path}: no such file or directory`);
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .filter((name) => /\.(json|jsonl|safetensors)$/.test(name))
    .sort()
    .map((name) => join(path, name))
    .filter((file) => statSync(file).isFile());
}

function addFile(hash: Hash, path: string): void {
  const { size } = statSync(path);
  hash.update(JSON.stringify([basename(path), size]));
  const whole = size <= wholeBytes;
  const length = whole ? 2 ** 20 : blockBytes;
  const count = whole ? Math.ceil(size / length) : blocksOfLarge;
  const block = Buffer.alloc(length);
  const descriptor = openSync(path, "r");
  try {
    for (let k = 0; k < count; k++) {
      const at = whole ? k * length : Math.floor((k * (size - length)) / (count - 1));
      hash.update(block.subarray(0, readSync(descriptor, block, 0, length, at)));
    }
  } finally {
    closeSync(descriptor);
  }
}
