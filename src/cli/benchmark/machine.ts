import { cpus, totalmem } from "node:os";

/** What a benchmark ran on. */
export interface Machine {
  readonly cores: number;
  readonly processor: string;
  readonly memoryBytes: number;
  readonly node: string;
}

export function thisMachine(): Machine {
  const all = cpus();
  return {
    cores: all.length,
    processor: all[0]?.model ?? "unknown",
    memoryBytes: totalmem(),
    node: process.versions.node,
  };
}
