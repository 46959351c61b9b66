import { execFileSync } from "node:child_process";
import { copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import koffi from "koffi";
import { headDims } from "../../../src/engine/flashinfer/geometry.js";
import { runtimeName } from "../../../src/engine/flashinfer/module-folder.js";
import { moduleName } from "../../../src/engine/flashinfer/module-names.js";
import { compiledFolder, compiler, fakeDriverFolder, options } from "../cuda/emulated.js";

const sources = ["tvm.hpp", "tvm-runtime.cpp", "attention-module.cpp", "row-modules.cpp"];
const bools = [false, true];

/** A folder of modules like FlashInfer's, for the device that is none: FAULTLINE_FLASHINFER may name it. */
export function standInFolder(): string {
  const driver = fakeDriverFolder();
  const files = new Map(sources.map((name) => [name, readFileSync(join(import.meta.dirname, name), "utf8")]));
  // Its libraries are linked with that driver.
  files.set("driver", driver);
  return compiledFolder("flashinfer", files, (folder) => {
    // FlashInfer's modules have names that nobody defines, so that the linker must not bind all of them at once.
    const linked = [`-L${driver}`, "-l:libcuda.so.1", `-Wl,-rpath,${driver}`, "-Wl,-z,lazy"];
    const build = (unit: string, library: string, flags: readonly string[]) =>
      execFileSync(compiler!, [...options, "-shared", unit, "-o", library, ...flags], { cwd: folder });
    build("tvm-runtime.cpp", runtimeName, []);
    build("row-modules.cpp", "rows", linked);
    build("attention-module.cpp", "attention", linked);
    // A module knows what it is by its name.
    for (const name of ["page", "norm", "rope"]) copyFileSync(join(folder, "rows"), join(folder, `${name}.so`));
    for (const kind of ["decode", "prefill"] as const)
      for (const headDim of headDims)
        for (const window of bools)
          for (const softCap of bools)
            copyFileSync(
              join(folder, "attention"),
              join(folder, `${moduleName({ kind, headDim, window, softCap })}.so`),
            );
  });
}

/** Plans and errors of the stand-in that were not given back. */
export function liveObjects(): number {
  const library = koffi.load(join(standInFolder(), runtimeName), { global: true });
  return library.func("standInLive", "int", [])() as number;
}
