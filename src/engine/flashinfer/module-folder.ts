import { existsSync, readdirSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/** The runtime that all modules need. */
export const runtimeName = "libtvm_ffi.so";

/** Where `faultline flashinfer build` leaves modules: beside FlashInfer's own cache, under the same base folder. */
export function builtFolder(): string {
  return join(baseFolder(), ".cache", "faultline", "flashinfer");
}

/** FlashInfer's own variable comes before the home folder. */
function baseFolder(): string {
  return process.env.FLASHINFER_WORKSPACE_BASE || homedir();
}

/**
 * Folders that may hold modules, the first to be asked first: the one in FAULTLINE_FLASHINFER alone where that is set, else
 * what was built here, then FlashInfer's cache, newest version first: <version>/<architectures>/cached_ops.
 */
function moduleFolders(): string[] {
  const { FAULTLINE_FLASHINFER: given } = process.env;
  if (given) return [given];
  const cache = join(baseFolder(), ".cache", "flashinfer");
  const versions = folders(cache).sort(newestFirst);
  const cached = versions.flatMap((version) =>
    folders(join(cache, version)).map((architecture) => join(cache, version, architecture, "cached_ops")),
  );
  return [builtFolder(), ...cached];
}

/** Path of a module's library. @throws Error in one sentence that says where it was looked for, and what makes it. */
export function findModule(name: string, build: string): string {
  const searched = moduleFolders();
  for (const folder of searched) {
    for (const path of [join(folder, `${name}.so`), join(folder, name, `${name}.so`)])
      if (existsSync(path)) return path;
  }
  throw new Error(
    `FlashInfer's module ${name} is not in ${searched.join(" or ")}: "${`faultline flashinfer build ${build}`.trim()}" makes it; FAULTLINE_FLASHINFER may name another folder`,
  );
}

/** Path of libtvm_ffi.so, or its bare name for the loader to find. */
export function findRuntime(): string {
  const found = [...moduleFolders(), ...pythonFolders()].map((folder) => join(folder, runtimeName)).find(existsSync);
  return found ?? runtimeName;
}

/** Where the package apache-tvm-ffi may be: the active environment, the user's packages, the system's. */
function pythonFolders(): string[] {
  const { VIRTUAL_ENV: environment, CONDA_PREFIX: conda } = process.env;
  const roots = [environment, conda, join(homedir(), ".local"), "/usr/local", "/usr"].filter(
    (root) => root !== undefined,
  );
  return roots.flatMap((root) =>
    folders(join(root, "lib"))
      .filter((name) => name.startsWith("python3"))
      .flatMap((name) =>
        ["site-packages", "dist-packages"].map((kind) => join(root, "lib", name, kind, "tvm_ffi", "lib")),
      ),
  );
}

function folders(path: string): string[] {
  if (!existsSync(path)) return [];
  return readdirSync(path, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? [entry.name] : []));
}

function newestFirst(a: string, b: string): number {
  return b.localeCompare(a, "en", { numeric: true });
}
