import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";

// A program of its own, that its time can be measured: node sha256-files.js FILE...
const piece = Buffer.allocUnsafe(2 ** 20);
for (const path of process.argv.slice(2)) {
  const hash = createHash("sha256");
  const descriptor = openSync(path, "r");
  for (let size = readSync(descriptor, piece); size > 0; size = readSync(descriptor, piece))
    hash.update(piece.subarray(0, size));
  closeSync(descriptor);
  process.stdout.write(`${hash.digest("hex")}  ${path}\n`);
}
