/** Functions of CUDA's driver API with their arguments, as cuda.h declares them: handles, pointers and sizes are 64 bits. */
const signatures = {
  cuInit: ["uint32_t"],
  cuDriverGetVersion: ["void *"],
  cuDeviceGetCount: ["void *"],
  cuDeviceGet: ["void *", "int"],
  cuDeviceGetName: ["void *", "int", "int"],
  cuDeviceGetAttribute: ["void *", "int", "int"],
  cuDevicePrimaryCtxRetain: ["void *", "int"],
  cuDevicePrimaryCtxRelease_v2: ["int"],
  cuCtxSetCurrent: ["uint64_t"],
  cuMemAlloc_v2: ["void *", "uint64_t"],
  cuMemFree_v2: ["uint64_t"],
  cuMemAllocHost_v2: ["void *", "uint64_t"],
  cuMemFreeHost: ["uint64_t"],
  cuMemsetD8Async: ["uint64_t", "uint8_t", "uint64_t", "uint64_t"],
  cuMemcpyHtoDAsync_v2: ["uint64_t", "void *", "uint64_t", "uint64_t"],
  cuMemcpyDtoHAsync_v2: ["uint64_t", "uint64_t", "uint64_t", "uint64_t"],
  cuModuleLoadData: ["void *", "void *"],
  cuModuleUnload: ["uint64_t"],
  cuModuleGetFunction: ["void *", "uint64_t", "str"],
  cuFuncSetAttribute: ["uint64_t", "int", "int"],
  cuLaunchKernelEx: ["uint64_t", "uint64_t", "uint64_t", "uint64_t"],
  cuStreamCreate: ["void *", "uint32_t"],
  cuStreamDestroy_v2: ["uint64_t"],
  cuStreamSynchronize: ["uint64_t"],
  cuStreamBeginCapture_v2: ["uint64_t", "int"],
  cuStreamEndCapture: ["uint64_t", "void *"],
  cuGraphInstantiateWithFlags: ["void *", "uint64_t", "uint64_t"],
  cuGraphLaunch: ["uint64_t", "uint64_t"],
  cuGraphDestroy: ["uint64_t"],
  cuGraphExecDestroy: ["uint64_t"],
  cuEventCreate: ["void *", "uint32_t"],
  cuEventRecord: ["uint64_t", "uint64_t"],
  cuEventQuery: ["uint64_t"],
  cuEventElapsedTime: ["void *", "uint64_t", "uint64_t"],
  cuEventDestroy_v2: ["uint64_t"],
} as const;

export type DriverFunction = keyof typeof signatures;
/** A number, a handle, or memory that the function reads or fills while it runs. */
export type DriverArgument = number | string | Uint8Array | null;

/** Memory at a fixed address, which the driver's structures can point to. */
export interface PinnedBytes {
  readonly address: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** What is used of koffi, which calls into C. */
export interface Koffi {
  load(
    path: string,
    options?: { readonly global?: boolean; readonly lazy?: boolean },
  ): { func(name: string, result: string, parameters: readonly string[]): Foreign };
  alloc(type: string, length: number): unknown;
  free(pointer: unknown): void;
  address(pointer: unknown): bigint;
  view(pointer: unknown, length: number): ArrayBuffer;
}

export type Foreign = (...values: unknown[]) => unknown;

/** CUresult of an event that has not come yet. */
const notReady = 600;

/** CUDA's driver, called through koffi; a result other than success becomes an Error with the call's name and the driver's words. */
export class DriverLibrary {
  readonly #functions = new Map<DriverFunction, Foreign>();
  readonly #library: ReturnType<Koffi["load"]>;
  readonly #errorName: Foreign;
  readonly #errorString: Foreign;

  private constructor(
    readonly koffi: Koffi,
    library: ReturnType<Koffi["load"]>,
  ) {
    this.#library = library;
    this.#errorName = library.func("cuGetErrorName", "int", ["int", "_Out_ const char **"]);
    this.#errorString = library.func("cuGetErrorString", "int", ["int", "_Out_ const char **"]);
  }

  /** @throws Error in one sentence when koffi is not installed, or the machine has no driver. */
  static async load(path = "libcuda.so.1"): Promise<DriverLibrary> {
    let koffi: Koffi;
    try {
      // Named in a variable because it is an optional peer: the checker installs without it.
      const name: string = "koffi";
      koffi = ((await import(name)) as { default: Koffi }).default;
    } catch {
      throw new Error("CUDA needs the package koffi (npm install koffi)");
    }
    let library: ReturnType<Koffi["load"]>;
    try {
      library = koffi.load(path);
    } catch {
      throw new Error(`this machine has no CUDA driver (${path} was not found)`);
    }
    return new DriverLibrary(koffi, library);
  }

  /** @throws Error when the driver answers with anything but success. */
  call(name: DriverFunction, ...values: readonly DriverArgument[]): void {
    const result = this.#result(name, values);
    if (result !== 0) throw new Error(`${name}: ${this.#describe(result)}`);
  }

  /** What a function writes to the 64 bits that its first argument points to: a handle or an address. */
  handle(name: DriverFunction, ...values: readonly DriverArgument[]): number {
    return Number(this.#written(name, values).getBigUint64(0, true));
  }

  /** The same of an int. */
  integer(name: DriverFunction, ...values: readonly DriverArgument[]): number {
    return this.#written(name, values).getInt32(0, true);
  }

  /** Milliseconds between two events that have come. */
  elapsed(start: number, end: number): number {
    return this.#written("cuEventElapsedTime", [start, end]).getFloat32(0, true);
  }

  /** Whether everything before an event is done. */
  isDone(event: number): boolean {
    const result = this.#result("cuEventQuery", [event]);
    if (result !== 0 && result !== notReady) throw new Error(`cuEventQuery: ${this.#describe(result)}`);
    return result === 0;
  }

  /** Memory outside of JavaScript's, for as long as the process lives. */
  pin(byteLength: number): PinnedBytes {
    const pointer = this.koffi.alloc("uint8_t", byteLength);
    return {
      address: Number(this.koffi.address(pointer)),
      bytes: new Uint8Array(this.koffi.view(pointer, byteLength)),
    };
  }

  #written(name: DriverFunction, values: readonly DriverArgument[]): DataView {
    const bytes = new Uint8Array(8);
    if (name === "cuStreamEndCapture") this.call(name, values[0]!, bytes);
    else this.call(name, bytes, ...values);
    return new DataView(bytes.buffer);
  }

  #result(name: DriverFunction, values: readonly DriverArgument[]): number {
    let foreign = this.#functions.get(name);
    if (!foreign) {
      foreign = this.#library.func(name, "int", signatures[name]);
      this.#functions.set(name, foreign);
    }
    return foreign(...values) as number;
  }

  #describe(result: number): string {
    const name: [string | null] = [null];
    const text: [string | null] = [null];
    this.#errorName(result, name);
    this.#errorString(result, text);
    return name[0] ? `${name[0]} (${text[0]})` : `CUresult ${result}`;
  }
}
