import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import type { KernelSource } from "./source.js";

/** NVRTC, which makes PTX of CUDA C++; for building and testing kernels, not for running them. */
export interface Compiler {
  readonly version: string;
  /** @throws Error with the compiler's own messages. */
  compile(name: string, source: KernelSource, options: readonly string[]): string;
}

type Foreign = (...values: unknown[]) => unknown;

interface Koffi {
  load(path: string): { func(name: string, result: string, parameters: readonly string[]): Foreign };
}

/** @throws Error in one sentence when koffi or NVRTC is not there. */
export async function openCompiler(): Promise<Compiler> {
  const name: string = "koffi";
  const koffi = ((await import(name)) as { default: Koffi }).default;
  for (const path of candidates()) {
    try {
      return compilerOf(koffi.load(path));
    } catch {
      // The next one.
    }
  }
  throw new Error("NVRTC was not found: name libnvrtc.so in NVRTC_LIBRARY, or a toolkit in CUDA_HOME");
}

/** Where NVRTC may be, the most explicit place first. */
function candidates(): string[] {
  const { NVRTC_LIBRARY: library, CUDA_HOME: home } = process.env;
  if (library) return [library];
  const folders = home ? [join(home, "lib64"), join(home, "lib")] : [];
  const found = folders
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder).map((file) => join(folder, file)))
    .filter((path) => /\/libnvrtc\.so[.\d]*$/.test(path));
  return [...found, "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
}

function compilerOf(library: ReturnType<Koffi["load"]>): Compiler {
  const text = library.func("nvrtcGetErrorString", "str", ["int"]);
  const define = (name: string, parameters: readonly string[]) => {
    const foreign = library.func(name, "int", parameters);
    return (...values: unknown[]) => {
      const result = foreign(...values) as number;
      if (result !== 0) throw new Error(`${name}: ${text(result)}`);
    };
  };
  const version = define("nvrtcVersion", ["_Out_ int *", "_Out_ int *"]);
  const create = define("nvrtcCreateProgram", ["void *", "str", "str", "int", "const char **", "const char **"]);
  const compile = define("nvrtcCompileProgram", ["uint64_t", "int", "const char **"]);
  const sizes = {
    log: define("nvrtcGetProgramLogSize", ["uint64_t", "void *"]),
    ptx: define("nvrtcGetPTXSize", ["uint64_t", "void *"]),
  };
  const contents = {
    log: define("nvrtcGetProgramLog", ["uint64_t", "void *"]),
    ptx: define("nvrtcGetPTX", ["uint64_t", "void *"]),
  };
  const destroy = define("nvrtcDestroyProgram", ["void *"]);
  const content = (program: bigint, which: "log" | "ptx") => {
    const size = new BigUint64Array(1);
    sizes[which](program, size);
    const bytes = new Uint8Array(Number(size[0]));
    contents[which](program, bytes);
    return new TextDecoder().decode(bytes.subarray(0, -1));
  };
  const major = [0];
  const minor = [0];
  version(major, minor);
  return {
    version: `${major[0]}.${minor[0]}`,
    compile(name, source, options) {
      const handle = new BigUint64Array(1);
      const headers = [...source.headers];
      create(
        handle,
        source.text,
        name,
        headers.length,
        headers.map(([, body]) => body),
        headers.map(([file]) => file),
      );
      try {
        compile(handle[0], options.length, [...options]);
        return content(handle[0]!, "ptx");
      } catch (error) {
        throw new Error(`${name}: ${(error as Error).message}\n${content(handle[0]!, "log")}`);
      } finally {
        destroy(handle);
      }
    },
  };
}
