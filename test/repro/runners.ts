import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** How many files of a folder pass and fail. */
export interface Outcome {
  readonly passed: number;
  readonly failed: number;
}

/** Runs every vitest file below a folder, as somebody would who has nothing but that folder and vitest. */
export function everyVitest(folder: string): Outcome {
  const report = join(folder, "report.json");
  // One worker for all files: a process each takes longer than the tests.
  const options = ["--globals", "--no-isolate", "--max-workers=1"];
  const words = ["run", ...options, "--root", folder, "--reporter=json", `--outputFile=${report}`];
  const environment = Object.entries(process.env).filter(([name]) => !name.startsWith("VITEST"));
  const vitest = new URL("../../node_modules/vitest/vitest.mjs", import.meta.url).pathname;
  spawnSync(process.execPath, [vitest, ...words], { env: Object.fromEntries(environment), cwd: folder });
  const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, "utf8"));
  return { passed: numPassedTests, failed: numFailedTests };
}

/** A Python with numpy, and what it runs the files with. */
export interface Python {
  readonly command: string;
  readonly runner: "pytest" | "plain Python, which has no pytest";
}

export const python = findPython();

function findPython(): Python | undefined {
  const command = process.env.FAULTLINE_PYTHON ?? "python3";
  const has = (...modules: string[]) => spawnSync(command, ["-c", `import ${modules.join(", ")}`]).status === 0;
  if (has("numpy", "pytest")) return { command, runner: "pytest" };
  return has("numpy") ? { command, runner: "plain Python, which has no pytest" } : undefined;
}

/** Calls each file's test, for a Python without pytest. */
const callEach = `
import pathlib, runpy, sys
passed = failed = 0
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/test_unit.py")):
    try:
        runpy.run_path(str(path))["test_unit"]()
        passed += 1
    except AssertionError:
        failed += 1
print(f"{passed} passed, {failed} failed")
`;

/** Runs every pytest file below a folder. */
export function everyPytest({ command, runner }: Python, folder: string): Outcome {
  const words =
    runner === "pytest"
      ? ["-m", "pytest", "--import-mode=importlib", "-q", "-p", "no:cacheprovider", "--rootdir", folder, folder]
      : ["-c", callEach, folder];
  const { stdout } = spawnSync(command, words, { encoding: "utf8" });
  const count = (word: string) => Number(new RegExp(`(\\d+) ${word}`).exec(stdout)?.[1] ?? 0);
  return { passed: count("passed"), failed: count("failed") };
}
