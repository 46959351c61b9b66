import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Foreign, Koffi } from "../cuda/driver-library.js";
import { CallFrame } from "./call-frame.js";
import type { ObjectValue, Value } from "./values.js";

/** kDLCUDA */
const cuda = 2;
/** Where an error object has its cell: kind, message and backtrace, each a pointer and a size. */
const errorCell = 24;

/** A function of one module by tvm-ffi's calling convention. */
export interface LibraryFunction {
  readonly name: string;
  /** Arguments that it takes, which it says itself when it is called with none. */
  readonly argumentCount: number;
  /** @returns the object that it made, if any. @throws Error with the library's own message, in one sentence. */
  call(values: readonly Value[]): ObjectValue | undefined;
}

/** libtvm_ffi.so, FlashInfer's runtime, and the modules that are loaded into it; both stay until the process ends. */
export class TvmLibrary {
  readonly #frame: CallFrame;
  readonly #setStream: Foreign;
  readonly #moveError: Foreign;
  readonly #release: Foreign;

  private constructor(
    readonly koffi: Koffi,
    readonly path: string,
  ) {
    // Modules find its symbols because they are everybody's.
    const library = koffi.load(path, { global: true });
    this.#setStream = library.func("TVMFFIEnvSetStream", "int", ["int", "int", "uint64_t", "uint64_t"]);
    this.#moveError = library.func("TVMFFIErrorMoveFromRaised", "void", ["void *"]);
    this.#release = library.func("TVMFFIObjectDecRef", "int", ["uint64_t"]);
    this.#frame = new CallFrame(koffi);
  }

  /** @throws Error in one sentence when the library cannot be loaded. */
  static load(koffi: Koffi, path: string): TvmLibrary {
    try {
      return new TvmLibrary(koffi, path);
    } catch (error) {
      throw new Error(`FlashInfer's runtime ${path} cannot be loaded: ${firstLine(error)}`);
    }
  }

  /** Modules put their kernels into this stream when they are called from this thread. */
  setStream(stream: number): void {
    if (this.#setStream(cuda, 0, stream, 0) !== 0) throw this.#raised("TVMFFIEnvSetStream");
  }

  /** The functions of a module, each looked up once. @throws Error in one sentence when it cannot be loaded. */
  open(path: string): (name: string) => LibraryFunction {
    const module = this.#load(path);
    return (name) => {
      let foreign: Foreign;
      try {
        foreign = module.func(`__tvm_ffi_${name}`, "int", ["uint64_t", "uint64_t", "int", "uint64_t"]);
      } catch {
        throw new Error(`FlashInfer's module ${path} has no function ${name}`);
      }
      return this.#function(name, path, foreign);
    };
  }

  /** A module, with the CUDA runtime that lies beside it where the loader finds none. */
  #load(path: string): ReturnType<Koffi["load"]> {
    // FlashInfer leaves kernels out of a module that it calls nowhere: a name is to be bound when it is called.
    const load = () => this.koffi.load(path, { lazy: true });
    try {
      return load();
    } catch (error) {
      const reason = firstLine(error);
      const missing = /(lib[\w.-]+): cannot open/.exec(reason)?.[1];
      if (!missing) throw new Error(`FlashInfer's module ${path} cannot be loaded: ${reason}`);
      const beside = join(dirname(path), missing);
      if (!existsSync(beside)) {
        throw new Error(
          `FlashInfer's module ${path} needs ${missing}, which the loader does not find: name its folder in LD_LIBRARY_PATH`,
        );
      }
      this.koffi.load(beside, { global: true });
      return load();
    }
  }

  /** Gives an object back. */
  release({ handle }: ObjectValue): void {
    this.#release(handle);
  }

  destroy(): void {
    this.#frame.free();
  }

  #function(name: string, path: string, foreign: Foreign): LibraryFunction {
    const frame = this.#frame;
    const call = (values: readonly Value[]): ObjectValue | undefined => {
      frame.pack(values);
      if (foreign(0, frame.argumentsAt, values.length, frame.resultAt) !== 0) throw this.#raised(name);
      return frame.result;
    };
    return { name, argumentCount: argumentCount(path, name, call), call };
  }

  /** The error that a call has left behind. */
  #raised(name: string): Error {
    const out = new Uint8Array(8);
    this.#moveError(out);
    const handle = Number(new DataView(out.buffer).getBigUint64(0, true));
    if (handle === 0) return new Error(`FlashInfer's ${name} failed without a word`);
    const cell = new DataView(this.#bytesAt(handle + errorCell, 32).buffer);
    const text = (at: number) => {
      const bytes = this.#bytesAt(Number(cell.getBigUint64(at, true)), Number(cell.getBigUint64(at + 8, true)));
      return new TextDecoder().decode(bytes);
    };
    const message = `FlashInfer's ${name}: ${text(0)}: ${firstLine(text(16))}`;
    this.#release(handle);
    return new Error(message);
  }

  /** A copy of memory that the library owns. */
  #bytesAt(address: number, length: number): Uint8Array<ArrayBuffer> {
    if (length === 0) return new Uint8Array(0);
    return new Uint8Array(this.koffi.view(BigInt(address), length)).slice();
  }
}

/** A function that is called with no argument refuses, and says how many it takes. */
function argumentCount(path: string, name: string, call: (values: readonly Value[]) => unknown): number {
  let message = "it takes a call without arguments";
  try {
    call([]);
  } catch (error) {
    message = (error as Error).message;
  }
  const count = /Expected (\d+) but got 0/.exec(message)?.[1];
  if (count === undefined) throw new Error(`${path}: ${name} does not say what it takes: ${message}`);
  return Number(count);
}

function firstLine(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.trim().split("\n")[0]!;
}
