import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir, userInfo } from "node:os";
import { basename, dirname, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";

/**
 * A GPU in software for machines without Vulkan: Google's SwiftShader and the Vulkan loader, as the npm package
 * @sparticuz/chromium ships them. Dawn finds the loader by name, so it must be in the process before Dawn looks.
 */

const driverFile = "vk_swiftshader_icd.json";
const loaderFile = "libvulkan.so.1";

/**
 * Makes the software driver the process's Vulkan; call before the first adapter is requested.
 * @returns a sentence saying why it is not available, or undefined when it is.
 */
export async function useSoftwareVulkan(): Promise<string | undefined> {
  if (process.platform !== "linux" || process.arch !== "x64") {
    return "the software GPU exists for Linux on x86-64 only";
  }
  const require = createRequire(import.meta.url);
  let archive: string;
  try {
    archive = join(findPackage(require, "@sparticuz/chromium"), "bin", "swiftshader.tar.br");
    if (!existsSync(archive)) throw new Error(archive);
  } catch {
    return "the software GPU needs the package @sparticuz/chromium (npm install @sparticuz/chromium koffi)";
  }
  const folder = unpackOnce(archive);
  try {
    // koffi is named in a variable because it is an optional peer: the checker installs without it.
    const name: string = "koffi";
    const koffi = (await import(name)) as { default: { load(path: string): unknown } };
    koffi.default.load(join(folder, loaderFile));
  } catch (error) {
    return `the software GPU needs the package koffi (npm install koffi): ${(error as Error).message}`;
  }
  process.env.VK_DRIVER_FILES = join(folder, driverFile);
  process.env.VK_ICD_FILENAMES = join(folder, driverFile);
  return undefined;
}

/** Folder of an installed package; its package.json need not be exported. */
function findPackage(require: NodeJS.Require, name: string): string {
  let folder = dirname(require.resolve(name));
  while (basename(folder) !== basename(name) || !existsSync(join(folder, "package.json"))) {
    const parent = dirname(folder);
    if (parent === folder) throw new Error(`${name} has no package.json`);
    folder = parent;
  }
  return folder;
}

/** Unpacks the driver into this user's temporary folder; concurrent processes each rename a whole folder into place. */
function unpackOnce(archive: string): string {
  const bytes = readFileSync(archive);
  const folder = join(tmpdir(), `faultline-swiftshader-${userInfo().uid}-${bytes.byteLength}`);
  if (existsSync(join(folder, driverFile)) && existsSync(join(folder, loaderFile))) return folder;
  const fresh = mkdtempSync(join(tmpdir(), "faultline-swiftshader-"));
  mkdirSync(fresh, { recursive: true });
  for (const [name, content] of tarFiles(brotliDecompressSync(bytes))) writeFileSync(join(fresh, name), content);
  try {
    renameSync(fresh, folder);
  } catch {
    // Another process was first: its copy is the same.
    if (existsSync(join(folder, driverFile))) rmSync(fresh, { recursive: true, force: true });
    else return fresh;
  }
  return folder;
}

/** Regular files of a ustar archive, by base name. */
function* tarFiles(tar: Buffer): Generator<[string, Buffer]> {
  for (let at = 0; at + 512 <= tar.length; ) {
    const name = tar.toString("utf8", at, at + 100).split("\0")[0]!;
    if (name === "") return;
    const size = Number.parseInt(tar.toString("ascii", at + 124, at + 136), 8);
    const type = tar.toString("ascii", at + 156, at + 157);
    if (type === "0" || type === "\0") yield [basename(name), tar.subarray(at + 512, at + 512 + size)];
    at += 512 + Math.ceil(size / 512) * 512;
  }
}
