import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import koffi from "koffi";
import { kernelNames } from "../../../src/engine/cuda/kernel-table.js";
import { kernelSource } from "../../../src/engine/cuda/source.js";

/** A C++ compiler of this machine, or undefined. */
export const compiler = ["g++", "clang++", "c++"].find((name) => {
  try {
    execFileSync(name, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
});

const here = import.meta.dirname;
/** Where kernels' sources lie. */
export const kernelFolder = new URL("../../../src/engine/cuda/kernels/", import.meta.url);
export const options = [
  "-std=c++17",
  "-O2",
  "-march=native",
  "-fPIC",
  "-U_FORTIFY_SOURCE",
  "-ffp-contract=off",
  "-fvisibility=default",
];

/** Folder with a libcuda.so.1 that has no device and runs the kernels' own sources on the CPU (fake-driver.cpp). */
export function fakeDriverFolder(): string {
  return compiledFolder("cuda", sourceFiles(), (fresh, units) => {
    for (const unit of units) execFileSync(compiler!, [...options, "-c", unit, "-o", `${unit}.o`], { cwd: fresh });
    execFileSync(compiler!, ["-shared", ...units.map((unit) => `${unit}.o`), "-o", "libcuda.so.1"], { cwd: fresh });
  });
}

/**
 * A folder of libraries compiled from `files`, once per state of them, in this user's temporary folder; who comes meanwhile
 * waits.
 * @param build is called in a folder that holds the files, with the names of those to be compiled.
 */
export function compiledFolder(
  name: string,
  files: ReadonlyMap<string, string>,
  build: (folder: string, units: readonly string[]) => void,
): string {
  const hash = createHash("sha256")
    .update(JSON.stringify([...files, options]))
    .digest("hex")
    .slice(0, 16);
  const folder = join(tmpdir(), `faultline-fake-${name}-${userInfo().uid}-${hash}`);
  const isThere = () => existsSync(folder);
  const lock = `${folder}.lock`;
  for (let seconds = 0; !isThere(); seconds++) {
    // Nobody compiles for so long: whoever held it is gone.
    if (seconds === 300) rmSync(lock, { recursive: true, force: true });
    if (!take(lock)) {
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
      continue;
    }
    try {
      if (!isThere()) compile(files, folder, build);
    } finally {
      rmSync(lock, { recursive: true });
    }
  }
  return folder;
}

/** Whether nobody had it. */
function take(lock: string): boolean {
  try {
    mkdirSync(lock);
    return true;
  } catch {
    return false;
  }
}

function compile(
  files: ReadonlyMap<string, string>,
  folder: string,
  build: (folder: string, units: readonly string[]) => void,
): void {
  const fresh = mkdtempSync(`${folder}.fresh-`);
  for (const [name, text] of files) writeFileSync(join(fresh, name), text);
  build(
    fresh,
    [...files.keys()].filter((name) => name.endsWith(".cpp")),
  );
  // The whole folder at once: nobody finds a part of a library.
  renameSync(fresh, folder);
}

/** Everything that is compiled: kernels with the CPU's device.cuh, each in a unit of its own. */
function sourceFiles(): Map<string, string> {
  const files = new Map<string, string>();
  for (const name of [...kernelNames, "faulty"] as const) {
    const { text, headers } =
      name === "faulty"
        ? { text: readFileSync(join(here, "faulty.cu"), "utf8"), headers: [] }
        : kernelSource(name, kernelFolder);
    const section = `shared_${name.replaceAll("-", "_")}`;
    for (const [header, body] of headers) files.set(header, body);
    files.set(`${name}.cu`, text);
    files.set(
      `${name}.cpp`,
      `#define SHARED_SECTION "${section}"\n#define SHARED_BEGIN __start_${section}\n#define SHARED_END __stop_${section}
#include "block.hpp"
extern "C" char __start_${section}[] __attribute__((weak));
extern "C" char __stop_${section}[] __attribute__((weak));
namespace {
#include "device.cuh"
#include "${name}.cu"
}
`,
    );
  }
  for (const name of ["device.cuh", "block.hpp", "block.cpp", "fake-state.hpp", "fake-driver.cpp"]) {
    files.set(name, readFileSync(join(here, name), "utf8"));
  }
  return files;
}

/** The fake driver from a test's side. */
export class FakeDriver {
  readonly path = join(fakeDriverFolder(), "libcuda.so.1");
  readonly #library = koffi.load(this.path);
  readonly #calls = this.#library.func("fakeCalls", "str", []);
  readonly #fail = this.#library.func("fakeFailure", "void", ["str", "int"]);
  readonly #live = this.#library.func("fakeLive", "int", []);

  /** Calls since the last time: name, and what matters of the arguments. */
  calls(): string[] {
    return (this.#calls() as string).split("\n").slice(0, -1);
  }

  /** Lets the next call of a function fail. */
  failNext(name: string, result: number): void {
    this.#fail(name, result);
  }

  /** Buffers, modules, streams, graphs, events and contexts that have not been given back. */
  get live(): number {
    return this.#live() as number;
  }
}
