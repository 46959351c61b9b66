import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { Checkpoint } from "../src/tensor/checkpoint.js";
import { compiledSource } from "./compiled-source.js";

const root = mkdtempSync(join(tmpdir(), "faultline-compiled-"));
afterAll(() => rmSync(root, { recursive: true }));
const last = join(root, "dist/report/html/page.js");
const build = `const { writeFileSync } = require("node:fs"); writeFileSync(${JSON.stringify(last)}, "built")`;
mkdirSync(join(root, "src/ops"), { recursive: true });
mkdirSync(join(root, "dist/report/html"), { recursive: true });
mkdirSync(join(root, "scripts"));
writeFileSync(join(root, "src/ops/norm.ts"), "");
writeFileSync(join(root, "tsconfig.json"), "{}");
writeFileSync(last, "");
writeFileSync(join(root, "scripts/copy-assets.mjs"), "");
writeFileSync(join(root, "build.cjs"), build);
writeFileSync(join(root, "package.json"), JSON.stringify({ scripts: { build: "node build.cjs" } }));

/** The plugin, started; whether that built. */
function started(watch = false) {
  const plugin = compiledSource(root) as unknown as {
    configureVitest(context: { vitest: { config: { watch: boolean } } }): void;
    resolveId(specifier: string, importer?: string): string | undefined;
  };
  plugin.configureVitest({ vitest: { config: { watch } } });
  return plugin;
}

it("what tests import from src is what the compiler made of it", () => {
  const ran = () => {
    try {
      return new Checkpoint(join(root, "nowhere"));
    } catch (error) {
      return (error as Error).stack;
    }
  };
  expect(ran()).toMatch(process.env.VITEST_MODE === "WATCH" ? /\/src\/tensor\/\S+\.ts:/ : /\/dist\/tensor\/\S+\.js:/);
});

it("imports lead to dist, from tests and from src, but for what has gone from src, and while watching", () => {
  const { resolveId } = started();
  expect(resolveId("../src/ops/norm.js", join(root, "test/norm.test.ts"))).toBe(join(root, "dist/ops/norm.js"));
  expect(resolveId("./ops/norm.js", join(root, "src/index.ts"))).toBe(join(root, "dist/ops/norm.js"));
  expect(resolveId("../src/ops/gone.js", join(root, "test/norm.test.ts"))).toBeUndefined();
  expect(resolveId("./norm.js", join(root, "test/norm.test.ts"))).toBeUndefined();
  expect(resolveId("vitest", join(root, "test/norm.test.ts"))).toBeUndefined();
  expect(started(true).resolveId("./ops/norm.js", join(root, "src/index.ts"))).toBeUndefined();
});

it("builds where nothing was built, or where anything changed, came or went since, and else does not", () => {
  const builds = (change: () => void) => {
    for (const path of [
      "src",
      "src/ops",
      "src/ops/norm.ts",
      "package.json",
      "tsconfig.json",
      "scripts/copy-assets.mjs",
    ])
      utimesSync(join(root, path), 1000, 1000);
    writeFileSync(last, "built before");
    utimesSync(last, 2000, 2000);
    change();
    started();
    return readFileSync(last, "utf8") === "built";
  };
  expect(builds(() => {})).toBe(false);
  expect(builds(() => rmSync(last))).toBe(true);
  expect(builds(() => writeFileSync(join(root, "src/ops/norm.ts"), "changed"))).toBe(true);
  expect(builds(() => renameSync(join(root, "src/ops/norm.ts"), join(root, "src/ops/rope.ts")))).toBe(true);
});
