import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { type KernelName, kernelNames, kernelTable, sharedBlocks } from "./kernel-table.js";
import { blockStruct, parameterStruct } from "./parameters.js";

/** How NVRTC is asked to compile: for the oldest devices that are meant; drivers translate it for later ones. */
export const compilerOptions = ["--gpu-architecture=compute_80", "--std=c++17"];

/** The header that declares what kernels are given, made from the table that packs it. */
export function parametersHeader(): string {
  const structs = new Map<string, string>();
  for (const name of kernelNames) {
    const { parameters } = kernelTable[name];
    structs.set(parameters.name, parameterStruct(parameters));
  }
  const blocks = sharedBlocks.map(blockStruct);
  return ["#pragma once", "struct Sampling;", ...blocks, ...structs.values()].join("\n");
}

/** The text of a kernel's file and of every header that it includes, by name. */
export interface KernelSource {
  readonly text: string;
  readonly headers: ReadonlyMap<string, string>;
}

/** @param folder where the sources lie: src/engine/cuda/kernels, which is no part of what is built. */
export function kernelSource(name: KernelName, folder: URL): KernelSource {
  const headers = new Map<string, string>();
  const include = (text: string): string => {
    for (const [, header] of text.matchAll(/^#include "([^"]+)"$/gm)) {
      if (headers.has(header!)) continue;
      headers.set(header!, "");
      const own = header === "parameters.cuh" ? parametersHeader() : readFileSync(new URL(header!, folder), "utf8");
      headers.set(header!, include(own));
    }
    return text;
  };
  return { text: include(readFileSync(new URL(`${name}.cu`, folder), "utf8")), headers };
}

/** What PTX was made from: SHA-256 of the options, the text and the headers. */
export function sourceHash({ text, headers }: KernelSource): string {
  const hash = createHash("sha256");
  const parts = [...headers].sort(([a], [b]) => (a < b ? -1 : 1)).flat();
  for (const part of [...compilerOptions, text, ...parts]) hash.update(`${part.length} ${part}`);
  return hash.digest("hex");
}

/** The oldest PTX that has what kernels use, so that drivers since CUDA 11.8 take it; a compiler names its own. */
const ptxVersion = "7.8";

/** Lines that say nothing to a driver, or, as this hint, nothing that an older one knows. */
const noise = /^\s*(?:$|\/\/(?!sm_90)|\.pragma "used_bytes_mask)/;

/** PTX as it is kept: what it was made from in its first line, and no line that is noise. */
export function keptPtx(source: KernelSource, compiled: string): string {
  const lines = compiled.split("\n").filter((line) => !noise.test(line));
  const kept = lines.map((line) => line.replace(/^\.version .*/, `.version ${ptxVersion}`));
  return `${ptxHeader(source)}\n${kept.join("\n")}\n`;
}

/** The first line of a kernel's PTX. */
export function ptxHeader(source: KernelSource): string {
  return `// made from ${sourceHash(source)}`;
}
