import { spawn } from "node:child_process";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { checkpointFiles } from "../../tensor/checkpoint.js";
import { runMeasuredModule } from "./measured-child.js";
import { tracked } from "./temporary-folder.js";
import { type Series, seriesOf, type Times } from "./times.js";

type Program = "sha256sum" | "Node's crypto";

/** SHA-256 of files, in a process of its own. */
export interface ChecksumRun extends Times {
  /** Node's own implementation stands in where there is no such command. */
  readonly program: Program;
}

export interface ChecksumFigures extends Series {
  readonly program: Program;
  readonly bytes: number;
}

/** In the background, so that it can be ended; `times` says what it used. */
const command = `
command -v sha256sum >/dev/null || exit 127
sha256sum -- "$@" >/dev/null &
trap 'kill $!' TERM INT
wait $! && times
`;

/** The files a diagnosis reads: the checkpoint's shards, and the recording or what lies below its folder. */
export function filesRead(model: string, recording: string): string[] {
  const below = (path: string): string[] =>
    statSync(path).isDirectory() ? readdirSync(path).flatMap((name) => below(join(path, name))) : [path];
  return [...checkpointFiles(model), ...below(recording)];
}

export async function measureChecksum(files: readonly string[]): Promise<ChecksumRun> {
  const start = performance.now();
  const { status, output } = await runShell(files);
  const seconds = (performance.now() - start) / 1000;
  const cpuSeconds = childrenSeconds(output);
  if (status === 0 && cpuSeconds !== undefined) return { program: "sha256sum", seconds, cpuSeconds };
  if (status !== undefined && status !== 0 && status !== 127) throw new Error(`sha256sum ended with status ${status}`);
  const module = fileURLToPath(new URL("sha256-files.js", import.meta.url));
  const run = await runMeasuredModule(module, files);
  if (run.exitCode !== 0) throw new Error(`SHA-256 of ${files[0]} ended with status ${run.exitCode}`);
  return { program: "Node's crypto", seconds: run.seconds, cpuSeconds: run.cpuSeconds };
}

export function checksumFigures(files: readonly string[], runs: readonly ChecksumRun[]): ChecksumFigures {
  const bytes = files.reduce((sum, file) => sum + statSync(file).size, 0);
  return { program: runs[0]!.program, bytes, ...seriesOf(runs) };
}

/** Undefined status where there is no shell. */
function runShell(files: readonly string[]): Promise<{ readonly status?: number; readonly output: string }> {
  return new Promise((resolve) => {
    const child = tracked(spawn("sh", ["-c", command, "sh", ...files], { stdio: ["ignore", "pipe", "inherit"] }));
    let output = "";
    child.stdout.on("data", (bytes: Buffer) => {
      output += bytes.toString();
    });
    child.on("error", () => resolve({ output: "" }));
    child.on("close", (code) => resolve({ status: code ?? -1, output }));
  });
}

/** User and system time in the second line of `times`: "0m3.210s 0m0.250s". */
export function childrenSeconds(times: string): number | undefined {
  const found = /^(\d+)m([\d.]+)s\s+(\d+)m([\d.]+)s/.exec(times.split("\n")[1] ?? "");
  if (!found) return undefined;
  const [userMinutes, user, systemMinutes, system] = found.slice(1).map(Number);
  return (userMinutes! + systemMinutes!) * 60 + user! + system!;
}
