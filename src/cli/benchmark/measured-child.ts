import { spawn } from "node:child_process";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";

/** A finished run of this command line in a process of its own. */
export interface MeasuredRun {
  readonly exitCode: number;
  readonly seconds: number;
  /** Largest resident set the process had. */
  readonly peakBytes: number;
  readonly output: string;
}

/** Loaded into the child before anything else: on exit it writes its peak resident set, in bytes, to descriptor 3. */
const reportPeak = `
import { writeSync } from "node:fs";
process.on("exit", () => writeSync(3, String(process.resourceUsage().maxRSS * 1024)));
`;

/** Runs `faultline ...words` in a fresh process, start of Node included in its time. */
export function runMeasured(words: readonly string[]): Promise<MeasuredRun> {
  const main = fileURLToPath(new URL("../main.js", import.meta.url));
  const start = performance.now();
  const child = spawn(
    process.execPath,
    ["--import", `data:text/javascript,${encodeURIComponent(reportPeak)}`, main, ...words],
    {
      stdio: ["ignore", "pipe", "inherit", "pipe"],
    },
  );
  const output: Buffer[] = [];
  let peak = "";
  child.stdout!.on("data", (bytes: Buffer) => output.push(bytes));
  child.stdio[3]!.on("data", (bytes: Buffer) => {
    peak += bytes.toString();
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code) =>
      resolve({
        exitCode: code ?? -1,
        seconds: (performance.now() - start) / 1000,
        peakBytes: Number(peak),
        output: Buffer.concat(output).toString("utf8"),
      }),
    );
  });
}
