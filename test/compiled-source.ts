import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, statSync } from "node:fs";
import { dirname, join, resolve, sep } from "node:path";
import type { Vite, VitestPluginContext } from "vitest/node";

/**
 * Lets tests that import src run what the compiler made of it: Node loads that as it is, several times as fast as Vite
 * transforms it, and every call between files is a plain one. Where dist is older than src, it is built first. What
 * `vitest watch` runs is src itself, since it follows only what it has transformed.
 */
export function compiledSource(root: string): Vite.Plugin {
  const source = join(root, "src") + sep;
  let watching = false;
  return {
    name: "compiled-source",
    enforce: "pre",
    configureVitest({ vitest }: VitestPluginContext) {
      watching = vitest.config.watch;
      if (isStale(root)) execFileSync("npm", ["run", "--silent", "build"], { cwd: root, stdio: ["ignore", 2, 2] });
    },
    resolveId(specifier, importer) {
      if (watching || !importer || !specifier.startsWith(".")) return;
      const path = resolve(dirname(importer), specifier);
      // What has gone from src may still be in dist.
      if (!path.startsWith(source) || !existsSync(path.replace(/\.js$/, ".ts"))) return;
      return join(root, "dist", path.slice(source.length));
    },
  };
}

/** Whether anything that is built was changed, added, moved or deleted since the build wrote its last file. */
function isStale(root: string): boolean {
  const last = statSync(join(root, "dist/report/html/page.js"), { throwIfNoEntry: false });
  const inputs = ["src", "package.json", "tsconfig.json", "scripts/copy-assets.mjs"];
  return !last || inputs.some((path) => newest(join(root, path)) > last.mtimeMs);
}

/** When a file, or a folder or anything in it, was last changed. */
function newest(path: string): number {
  const { mtimeMs } = statSync(path);
  const names = statSync(path).isDirectory() ? readdirSync(path) : [];
  return Math.max(mtimeMs, ...names.map((name) => newest(join(path, name))));
}
