import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { tracked } from "./temporary-folder.js";

/** Why something could not be measured, and what to do about it. */
export interface Unavailable {
  readonly unavailable: string;
}

const missingStatus = 3;

/** What a script of scripts/benchmark printed, or why it could not run. */
export function runScript(
  python: string,
  name: string,
  words: readonly string[],
): Promise<{ readonly output: string } | Unavailable> {
  const script = fileURLToPath(new URL(`../../../scripts/benchmark/${name}`, import.meta.url));
  if (!existsSync(script))
    return Promise.resolve({
      unavailable: `scripts/benchmark/${name} is part of a clone of the project, not of the package`,
    });
  return new Promise((resolve) => {
    const child = execFile(python, [script, ...words], (error, stdout, stderr) => {
      if (!error) return resolve({ output: stdout });
      if (error.code === missingStatus) {
        return resolve({ unavailable: `${python} has no numpy; install it with: ${python} -m pip install numpy` });
      }
      const why =
        error.code === "ENOENT"
          ? `${python} was not found; name another with --python`
          : stderr.trim().split("\n").at(-1);
      resolve({ unavailable: why || error.message });
    });
    tracked(child);
  });
}
