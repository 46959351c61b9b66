// Compiles src/engine/cuda/kernels to PTX with NVRTC, into src/engine/cuda/ptx. Users need none of this: PTX is committed.
// NVRTC is the library named by NVRTC_LIBRARY, or that of CUDA_HOME, or the one that the system's loader finds.
import { mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { openCompiler } from "../dist/engine/cuda/compiler.js";
import { kernelNames } from "../dist/engine/cuda/kernel-table.js";
import { compilerOptions, keptPtx, kernelSource } from "../dist/engine/cuda/source.js";

const root = join(import.meta.dirname, "..", "src", "engine", "cuda");
const kernels = pathToFileURL(join(root, "kernels/"));
const folder = join(root, "ptx");
const compiler = await openCompiler();
mkdirSync(folder, { recursive: true });
const written = new Set();
let bytes = 0;
for (const name of kernelNames) {
  const source = kernelSource(name, kernels);
  const ptx = keptPtx(source, compiler.compile(`${name}.cu`, source, compilerOptions));
  writeFileSync(join(folder, `${name}.ptx`), ptx);
  written.add(`${name}.ptx`);
  bytes += ptx.length;
}
for (const name of readdirSync(folder)) if (!written.has(name)) rmSync(join(folder, name));
console.log(`${written.size} files of PTX, ${(bytes / 1e6).toFixed(1)} MB, by NVRTC ${compiler.version}`);
