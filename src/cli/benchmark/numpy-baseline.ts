import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** NumPy's allclose over the same two files, or why it could not be measured. */
export type Baseline =
  | { readonly numpy: string; readonly seconds: number; readonly cpuSeconds: number; readonly peakBytes: number }
  | { readonly unavailable: string };

const missingStatus = 3;

/** Runs scripts/benchmark/allclose.py with the given Python. */
export function measureNumpy(python: string, reference: string, target: string): Promise<Baseline> {
  const script = fileURLToPath(new URL("../../../scripts/benchmark/allclose.py", import.meta.url));
  if (!existsSync(script))
    return Promise.resolve({
      unavailable: "scripts/benchmark/allclose.py is part of a clone of the project, not of the package",
    });
  return new Promise((resolve) => {
    execFile(python, [script, reference, target], (error, stdout, stderr) => {
      if (!error) return resolve(JSON.parse(stdout) as Baseline);
      if (error.code === missingStatus) {
        return resolve({ unavailable: `${python} has no numpy; install it with: ${python} -m pip install numpy` });
      }
      const why =
        error.code === "ENOENT"
          ? `${python} was not found; name another with --python`
          : stderr.trim().split("\n").at(-1);
      resolve({ unavailable: why || error.message });
    });
  });
}
