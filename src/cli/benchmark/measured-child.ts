import { spawn } from "node:child_process";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { tracked } from "./temporary-folder.js";
import type { Times } from "./times.js";

/** A finished run in a process of its own; its processor time is that of all its threads. */
export interface MeasuredRun extends Times {
  readonly exitCode: number;
  /** Largest resident set the process had. */
  readonly peakBytes: number;
  readonly output: string;
}

/** Loaded into the child before anything else: on exit it writes what it used to descriptor 3. */
const reportUsage = `
import { writeSync } from "node:fs";
process.on("exit", () => {
  const { maxRSS, userCPUTime, systemCPUTime } = process.resourceUsage();
  writeSync(3, JSON.stringify({ peakBytes: maxRSS * 1024, cpuSeconds: (userCPUTime + systemCPUTime) / 1e6 }));
});
`;

/** Runs `faultline ...words` in a fresh process, start of Node included in its time. */
export function runMeasured(words: readonly string[]): Promise<MeasuredRun> {
  return runMeasuredModule(fileURLToPath(new URL("../main.js", import.meta.url)), words);
}

/** Runs `node module ...words` in a fresh process. */
export function runMeasuredModule(module: string, words: readonly string[]): Promise<MeasuredRun> {
  const start = performance.now();
  const usageModule = `data:text/javascript,${encodeURIComponent(reportUsage)}`;
  const child = tracked(
    spawn(process.execPath, ["--import", usageModule, module, ...words], {
      stdio: ["ignore", "pipe", "inherit", "pipe"],
    }),
  );
  const output: Buffer[] = [];
  let usage = "";
  child.stdout!.on("data", (bytes: Buffer) => output.push(bytes));
  child.stdio[3]!.on("data", (bytes: Buffer) => {
    usage += bytes.toString();
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) => {
      if (usage === "") return reject(new Error(`${[module, ...words].join(" ")} was ended before it finished`));
      resolve({
        exitCode: code ?? -1,
        seconds: (performance.now() - start) / 1000,
        ...(JSON.parse(usage) as { peakBytes: number; cpuSeconds: number }),
        output: Buffer.concat(output).toString("utf8"),
      });
    });
  });
}
