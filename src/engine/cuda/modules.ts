import { readFileSync } from "node:fs";
import type { DriverLibrary } from "./driver-library.js";
import { functionName, type KernelName, kernelTable } from "./kernel-table.js";
import type { BoundKernel } from "./launch.js";
import type { KernelBlock } from "./tensor-blocks.js";

/** CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */
const mostSharedBytes = 8;

/** What a kernel's argument holds. */
export type KernelValues<Name extends KernelName> = Parameters<(typeof kernelTable)[Name]["parameters"]["pack"]>[0];

/** The kernels on one device: a function's PTX is translated by the driver when it is asked for first. */
export class Modules {
  readonly #texts = new Map<KernelName, string>();
  readonly #modules: number[] = [];
  readonly #functions = new Map<string, number>();

  /**
   * @param overlaps whether the device has the instructions by which kernels overlap.
   * @param multiprocessors of the device.
   */
  constructor(
    readonly driver: DriverLibrary,
    readonly overlaps: boolean,
    readonly multiprocessors: number,
  ) {}

  /** A kernel with its argument; `variant` is how its name ends where a file has several. */
  bind<Name extends KernelName>(name: Name, values: KernelValues<Name>, variant?: string): BoundKernel {
    const { parameters, variants } = kernelTable[name];
    const block = variants[variant ?? ""];
    if (!block) throw new Error(`the kernel ${name} has no variant ${variant}`);
    const argument = (parameters.pack as (values: unknown) => Uint8Array)(values);
    return { handle: this.#function(name, functionName(name, variant ?? ""), block), ...block, argument };
  }

  destroy(): void {
    for (const module of this.#modules.splice(0)) this.driver.call("cuModuleUnload", module);
    this.#functions.clear();
  }

  #function(name: KernelName, entry: string, { sharedBytes }: KernelBlock): number {
    let found = this.#functions.get(entry);
    if (found === undefined) {
      const image = new TextEncoder().encode(`${onlyEntry(this.#text(name), entry)}\0`);
      const module = this.driver.handle("cuModuleLoadData", image);
      this.#modules.push(module);
      found = this.driver.handle("cuModuleGetFunction", module, entry);
      if (sharedBytes > 0) this.driver.call("cuFuncSetAttribute", found, mostSharedBytes, sharedBytes);
      this.#functions.set(entry, found);
    }
    return found;
  }

  #text(name: KernelName): string {
    let text = this.#texts.get(name);
    if (text === undefined) {
      const ptx = readFileSync(new URL(`./ptx/${name}.ptx`, import.meta.url), "utf8");
      text = this.overlaps ? withOverlap(ptx) : ptx;
      this.#texts.set(name, text);
    }
    return text;
  }
}

/** PTX with one of its functions alone: translating a whole file takes seconds, of which a path needs a few functions. */
export function onlyEntry(ptx: string, entry: string): string {
  return ptx.replaceAll(/^\.visible \.entry (\w+)\([\s\S]*?^\}$/gm, (text, name) => (name === entry ? text : ""));
}

/** PTX for compute capability 9.0: its instructions, which are comments before. */
export function withOverlap(ptx: string): string {
  return ptx.replaceAll("//sm_90 ", "").replace(/^\.target sm_80$/m, ".target sm_90");
}
