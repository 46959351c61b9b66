import { readFileSync } from "node:fs";
import type { DriverLibrary } from "./driver-library.js";
import { type KernelName, kernelTable } from "./kernel-table.js";
import type { BoundKernel } from "./launch.js";

/** What a kernel's argument holds. */
export type KernelValues<Name extends KernelName> = Parameters<(typeof kernelTable)[Name]["parameters"]["pack"]>[0];

/** The kernels on one device: PTX is read and translated by the driver when the first kernel of a file is asked for. */
export class Modules {
  readonly #modules = new Map<KernelName, number>();
  readonly #functions = new Map<string, number>();

  /** @param overlaps whether the device has the instructions by which kernels overlap. */
  constructor(
    readonly driver: DriverLibrary,
    readonly overlaps: boolean,
  ) {}

  /** A kernel with its argument; `variant` is how its name ends where a file has several. */
  bind<Name extends KernelName>(name: Name, values: KernelValues<Name>, variant?: string): BoundKernel {
    const { parameters, threads } = kernelTable[name];
    const base = name.replaceAll("-", "_");
    const entry = variant === undefined ? base : `${base}_${variant}`;
    const argument = (parameters.pack as (values: unknown) => Uint8Array)(values);
    return { handle: this.#function(name, entry), threads, argument };
  }

  destroy(): void {
    for (const module of this.#modules.values()) this.driver.call("cuModuleUnload", module);
    this.#modules.clear();
    this.#functions.clear();
  }

  #function(name: KernelName, entry: string): number {
    let found = this.#functions.get(entry);
    if (found === undefined) {
      found = this.driver.handle("cuModuleGetFunction", this.#module(name), entry);
      this.#functions.set(entry, found);
    }
    return found;
  }

  #module(name: KernelName): number {
    let module = this.#modules.get(name);
    if (module === undefined) {
      const ptx = readFileSync(new URL(`./ptx/${name}.ptx`, import.meta.url), "utf8");
      const image = new TextEncoder().encode(`${this.overlaps ? withOverlap(ptx) : ptx}\0`);
      module = this.driver.handle("cuModuleLoadData", image);
      this.#modules.set(name, module);
    }
    return module;
  }
}

/** PTX for compute capability 9.0: its instructions, which are comments before. */
export function withOverlap(ptx: string): string {
  return ptx.replaceAll("//sm_90 ", "").replace(/^\.target sm_80$/m, ".target sm_90");
}
