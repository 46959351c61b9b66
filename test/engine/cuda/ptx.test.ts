import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { type Compiler, openCompiler } from "../../../src/engine/cuda/compiler.js";
import { functionName, type KernelName, kernelNames, kernelTable } from "../../../src/engine/cuda/kernel-table.js";
import { withOverlap } from "../../../src/engine/cuda/modules.js";
import { compilerOptions, keptPtx, kernelSource, ptxHeader } from "../../../src/engine/cuda/source.js";
import { kernelFolder } from "./emulated.js";

const folder = "src/engine/cuda/ptx";
const ptxOf = (name: KernelName) => readFileSync(`${folder}/${name}.ptx`, "utf8");

test("there is PTX of every kernel's file, and of no other", () => {
  expect(readdirSync(folder).sort()).toEqual(kernelNames.map((name) => `${name}.ptx`).sort());
  const sources = readdirSync(kernelFolder).filter((name) => name.endsWith(".cu"));
  expect(sources.sort()).toEqual(kernelNames.map((name) => `${name}.cu`).sort());
});

describe.each(kernelNames)("%s", (name) => {
  test("its PTX was made from its source (npm run build:cuda makes it anew)", () => {
    expect(ptxOf(name).split("\n")[0]).toBe(ptxHeader(kernelSource(name, kernelFolder)));
  });

  test("has every function of the table, with its argument and its threads", () => {
    const { parameters, variants } = kernelTable[name];
    const found = [...ptxOf(name).matchAll(/\.entry (\w+)\([^)]*_param_0\[(\d+)\]\s*\)\s*\.maxntid (\d+)/g)];
    expect(found.map(([, entry, bytes, block]) => `${entry} ${bytes} ${block}`).sort()).toEqual(
      Object.entries(variants)
        .map(([variant, { threads }]) => `${functionName(name, variant)} ${parameters.byteLength} ${threads}`)
        .sort(),
    );
  });

  test("its header says what shapes it takes", () => {
    const header = kernelSource(name, kernelFolder).text.split("#include")[0]!;
    expect(header).toMatch(/\[\w+.*\]/);
    expect(header).toMatch(/[Gg]rid/);
  });
});

test("waits are comments, except where the device has them", () => {
  const kept = ptxOf("product");
  expect(kept).toContain(".target sm_80");
  expect(kept.replaceAll(/\/\/.*$/gm, "")).not.toContain("griddepcontrol");
  const later = withOverlap(kept);
  expect(later).toContain(".target sm_90");
  expect(later.replaceAll(/\/\/.*$/gm, "")).toMatch(/griddepcontrol\.launch_dependents;[\s\S]*griddepcontrol\.wait;/);
});

const nvrtc: Compiler | undefined = await openCompiler().catch(() => undefined);
if (!nvrtc) console.warn("NVRTC was not found (NVRTC_LIBRARY, CUDA_HOME): the CUDA kernels were not compiled");

// The larger ones take NVRTC seconds each, of which the hash speaks as well.
const whenFound = nvrtc ? describe : () => {};
whenFound("compiled by NVRTC", () => {
  test.each(["rmsnorm", "select-token", "rotate-append"] as const)("%s is what was kept", (name) => {
    const source = kernelSource(name, kernelFolder);
    const compiled = keptPtx(source, nvrtc!.compile(`${name}.cu`, source, compilerOptions));
    const entries = (ptx: string) => [...ptx.matchAll(/\.entry \w+/g)].map(([entry]) => entry);
    expect(entries(compiled)).toEqual(entries(ptxOf(name)));
  });

  test("a mistake is told in the compiler's words", () => {
    const source = { text: "__global__ void f() { nothing(); }", headers: new Map<string, string>() };
    expect(() => nvrtc!.compile("f.cu", source, compilerOptions)).toThrow(
      /f\.cu: nvrtcCompileProgram.*\n.*"nothing" is undefined/,
    );
  });
});
