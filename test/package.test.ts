import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectPublished } from "./published.js";

const root = fileURLToPath(new URL("..", import.meta.url));
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const folder = mkdtempSync(join(tmpdir(), "faultline-package-"));
const installed = join(folder, "node_modules/faultline");
afterAll(() => rmSync(folder, { recursive: true }));

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { readonly path: string; readonly size: number }[];
}
let packed: Packed;

/** As npm does with the file in an empty folder, but with the packages of this checkout: those it names, and no others. */
beforeAll(() => {
  const words = ["pack", "--json", "--ignore-scripts", "--pack-destination", folder];
  [packed] = JSON.parse(execFileSync("npm", words, { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }));
  mkdirSync(installed, { recursive: true });
  execFileSync("tar", ["-xzf", join(folder, packed.filename), "-C", installed, "--strip-components=1"]);
  for (const name of needed(Object.keys(manifest.dependencies))) {
    const place = join(folder, "node_modules", name);
    mkdirSync(dirname(place), { recursive: true });
    symlinkSync(join(root, "node_modules", name), place);
  }
});

/** Packages, and what they need. */
function needed(names: readonly string[]): string[] {
  const all = new Set(names);
  for (const name of all) {
    const { dependencies = {} } = JSON.parse(readFileSync(join(root, "node_modules", name, "package.json"), "utf8"));
    for (const further of Object.keys(dependencies)) all.add(further);
  }
  return [...all];
}

/** Runs the installed program in a folder that has nothing else. */
function faultline(...words: string[]) {
  const main = join(installed, manifest.bin.faultline);
  // Links are not followed: what is beside them in the checkout is not found.
  const node = ["--preserve-symlinks", "--preserve-symlinks-main", main];
  const { status, stdout, stderr } = spawnSync(process.execPath, [...node, ...words], {
    cwd: folder,
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

describe("the package", () => {
  it("has the program, its documents, schemas, cases and model, and nothing that only tests need", () => {
    const paths = packed.files.map(({ path }) => path);
    for (const path of ["dist/cli/main.js", "dist/engine/index.d.ts", "docs/agents.md", "docs/skill/SKILL.md"])
      expect(paths).toContain(path);
    for (const path of ["schemas/diagnose.json", "python/pyproject.toml", "cases/exclamation-mark/capture.safetensors"])
      expect(paths).toContain(path);
    const places =
      /^(?:dist|docs|schemas|python\/faultline|cases|models|scripts\/benchmark)\/|^(?:package\.json|README\.md|LICENSE|python\/pyproject\.toml)$/;
    expect(paths.filter((path) => !places.test(path))).toEqual([]);
    const needless = /\.map$|\.tsbuildinfo$|__pycache__|\.test\.|^docs\/images|node_modules/;
    expect(paths.filter((path) => needless.test(path))).toEqual([]);
  });

  it("is under 10 MB packed and 15 MB unpacked (a third of it PTX), without the demo's model, which hardly gets smaller", () => {
    const model = packed.files
      .filter(({ path }) => path.startsWith("models/"))
      .reduce((sum, { size }) => sum + size, 0);
    expect(packed.size).toBeLessThan(10e6 + 0.75 * model);
    const rest = packed.files
      .filter(({ path }) => !path.startsWith("models/"))
      .reduce((sum, { size }) => sum + size, 0);
    expect(rest).toBeLessThan(15e6);
  });

  it("needs no compiler and no GPU: what is large is an optional peer, and no script runs when it is installed", () => {
    const peers = Object.keys(manifest.peerDependencies);
    expect(peers.filter((name) => !manifest.peerDependenciesMeta[name]?.optional)).toEqual([]);
    expect(Object.keys(manifest.dependencies).filter((name) => peers.includes(name))).toEqual([]);
    expect(Object.keys(manifest.scripts).filter((name) => /^(?:pre|post)?install$/.test(name))).toEqual([]);
    const scripts = needed(Object.keys(manifest.dependencies)).filter((name) => {
      const { scripts = {} } = JSON.parse(readFileSync(join(root, "node_modules", name, "package.json"), "utf8"));
      return ["preinstall", "install", "postinstall"].some((script) => script in scripts);
    });
    expect(scripts).toEqual([]);
    expect(readdirSync(join(folder, "node_modules"))).not.toContain("webgpu");
  });

  it("prepares without a compiler: nothing is built, and nothing fails", () => {
    const clone = join(folder, "clone");
    cpSync(join(root, "scripts/prepare.mjs"), join(clone, "scripts/prepare.mjs"));
    writeFileSync(join(clone, "package.json"), JSON.stringify({ type: "module", scripts: { build: "exit 1" } }));
    const run = () => spawnSync(process.execPath, ["scripts/prepare.mjs"], { cwd: clone, encoding: "utf8" });
    expect(run()).toMatchObject({ status: 0, stderr: expect.stringContaining("TypeScript is not installed") });
    mkdirSync(join(clone, "node_modules/typescript"), { recursive: true });
    expect(run().status).toBe(1);
  });
});

describe("installed in an empty folder", () => {
  it("runs the demo, and prints what README.md shows word for word", { timeout: 300_000 }, () => {
    const { status, stdout } = faultline("demo");
    expect(status).toBe(0);
    // Lines break elsewhere, since paths are longer than in a clone.
    const words = (text: string) => text.replaceAll("node_modules/faultline/", "").split(/\s+/).join(" ").trim();
    const shown = /^```\n(The symptom\n.*?)^```$/ms.exec(readFileSync(join(installed, "README.md"), "utf8"))![1]!;
    expect(words(stdout)).toBe(words(shown));
  });

  it("diagnoses a recording, and says which package a GPU needs", () => {
    const golden = join(root, "test/golden/ranks");
    const ranks = [0, 1].map((rank) => join(golden, "faults/rank-missing", `rank${rank}`));
    const { status, stdout } = faultline(
      "diagnose",
      ...ranks,
      "--model",
      join(golden, "models/llama"),
      "--json",
      "--quick",
    );
    expect(status).toBe(1);
    expectPublished("diagnose", stdout);
    const model = join(installed, "models/ishmael-7m");
    const gpu = faultline("generate", "--model", model, "--prompt", "Call", "--path", "fused", "--max-tokens", "1");
    expect(gpu).toMatchObject({ status: 2, stderr: expect.stringMatching(/^faultline: .*webgpu/) });
  });
});
