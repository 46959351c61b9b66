import type { ChildProcess } from "node:child_process";
import { mkdtempSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";

const running = new Set<ChildProcess>();
const endings = { SIGINT: 130, SIGTERM: 143 } as const;

/** Notes a process, so that an interrupted benchmark ends it before its folder goes. */
export function tracked<T extends ChildProcess>(child: T): T {
  running.add(child);
  child.once("close", () => running.delete(child));
  child.once("error", () => running.delete(child));
  return child;
}

/** Bytes free for an ordinary user where `folder` lies. */
export function freeBytes(folder: string): number {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}

/** Runs `work` with a new folder below `parent`, which is deleted afterwards, and also when the process is told to end. */
export async function inTemporaryFolder<T>(parent: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(parent, "faultline-bench-"));
  const remove = () => rmSync(folder, { recursive: true, force: true, maxRetries: 5 });
  const interrupted = (signal: NodeJS.Signals) => {
    for (const child of running) child.kill("SIGTERM");
    remove();
    process.exit(endings[signal as keyof typeof endings]);
  };
  const signals = Object.keys(endings) as (keyof typeof endings)[];
  for (const signal of signals) process.once(signal, interrupted);
  try {
    return await work(folder);
  } finally {
    for (const signal of signals) process.off(signal, interrupted);
    remove();
  }
}
