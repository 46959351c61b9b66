import type { Times } from "./times.js";

export function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}

export function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

export function timesText({ seconds, cpuSeconds }: Times): string {
  return `${seconds.toFixed(2)} s (${cpuSeconds.toFixed(2)} s of processor time)`;
}
