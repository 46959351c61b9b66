import { readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";

/** Folders whose files compute and mostly keep to themselves: no command line. */
const folders = ["capture", "diagnose", "engine", "importers", "lab", "report", "spec", "tensor"];

/** What reaches beyond a file: mocks, spies and fake clocks, the state of the process, its memory, a GPU, a browser. */
const reachesOut = [
  /\bvi\b.*from "vitest"/,
  /\bprocess\.(exitCode|chdir|on|memoryUsage|umask)\b|\bprocess\.env\S* \S*=|\bglobalThis\b/,
  /node:(child_process|worker_threads)/,
  /import .*\bopenTestDevice\b|"koffi"|"playwright-core"/,
];

/** Test files that may run one after the other in one process, which loads what they import once. */
export function sharingFiles(root: string): string[] {
  return folders
    .flatMap((folder) =>
      readdirSync(join(root, "test", folder), { recursive: true }).map((name) => `test/${folder}/${name}`),
    )
    .filter((file) => file.endsWith(".test.ts"))
    .filter((file) => !withImports(join(root, file)).some(doesReachOut))
    .sort();
}

function doesReachOut(path: string): boolean {
  const text = readFileSync(path, "utf8");
  return reachesOut.some((pattern) => pattern.test(text));
}

/** A test file and the files of tests that it imports, and these in their turn. */
function withImports(file: string): string[] {
  const found = new Set([file]);
  for (const path of found) {
    for (const [, name] of readFileSync(path, "utf8").matchAll(/from "(\.[^"]*)\.js"/g)) {
      const imported = `${join(dirname(path), name!)}.ts`;
      if (!imported.includes("/src/")) found.add(imported);
    }
  }
  return [...found];
}
