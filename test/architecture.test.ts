import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { describe, expect, it } from "vitest";

const root = new URL("..", import.meta.url).pathname;
const source = join(root, "src");

/** Ground floor first: a folder imports from itself and from those before it. src/index.ts stands above all. */
const floors = [
  "tensor",
  "spec",
  "capture",
  "importers",
  "compare",
  "diagnose",
  "names",
  "repro",
  "engine",
  "lab",
  "report",
  "cli",
];

/** The same inside a folder: lowest first, and the files beside the sub-folders stand above them all. */
const innerFloors: Record<string, readonly string[]> = {
  diagnose: ["bits", "check", "causes", "records", "explain", "prove", "threads", "tell", "reference"],
  engine: ["text", "run", "reference", "program", "device", "attention", "webgpu", "cuda", "flashinfer", "serve"],
};

function filesUnder(folder: string, ending: RegExp): string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name);
    if (statSync(path).isDirectory()) return filesUnder(path, ending);
    return ending.test(name) ? [path] : [];
  });
}

interface Import {
  readonly specifier: string;
  readonly typeOnly: boolean;
}

function statementsOf(text: string): Import[] {
  const statements = text.matchAll(/^\s*(?:import|export)\s+(type\s)?[^;"']*?from\s+["']([^"']+)["']/gm);
  return [...statements].map((m) => ({ specifier: m[2]!, typeOnly: m[1] !== undefined }));
}

function importsOf(text: string): Import[] {
  const dynamic = text.matchAll(/\bimport\(\s*["']([^"']+)["']\s*\)/g);
  const bare = text.matchAll(/^\s*import\s+["']([^"']+)["']/gm);
  return [...statementsOf(text), ...[...dynamic, ...bare].map((m) => ({ specifier: m[1]!, typeOnly: false }))];
}

const files = filesUnder(source, /\.ts$/);
const texts = new Map(files.map((path) => [path, readFileSync(path, "utf8")]));
const short = (path: string) => relative(root, path);
const floorOf = (path: string) => {
  const folder = relative(source, path).split("/");
  return folder.length === 1 ? floors.length : floors.indexOf(folder[0]!);
};
const target = (from: string, specifier: string) => resolve(dirname(from), specifier).replace(/\.js$/, ".ts");

describe("the source", () => {
  it("has no folder that the order does not name", () => {
    expect(files.filter((path) => floorOf(path) < 0).map(short)).toEqual([]);
  });

  it("never imports from a higher folder", () => {
    const upward: string[] = [];
    for (const [path, text] of texts) {
      for (const { specifier } of importsOf(text)) {
        if (!specifier.startsWith(".")) continue;
        const imported = target(path, specifier);
        if (!texts.has(imported) && !statSync(imported, { throwIfNoEntry: false })?.isFile())
          upward.push(`${short(path)} imports ${specifier}, which is not there`);
        else if (!specifier.endsWith(".json") && floorOf(imported) > floorOf(path))
          upward.push(`${short(path)} imports ${short(imported)}`);
      }
    }
    expect(upward).toEqual([]);
  });

  it("never imports from a higher sub-folder", () => {
    const upward: string[] = [];
    for (const [path, text] of texts) {
      const [folder, ...inside] = relative(source, path).split("/");
      const order = innerFloors[folder!];
      if (!order) continue;
      const height = (place: string) => (place.endsWith(".ts") ? order.length : order.indexOf(place));
      if (height(inside[0]!) < 0) upward.push(`${short(path)} is in a sub-folder that the order does not name`);
      for (const { specifier } of importsOf(text)) {
        const [other, ...there] = relative(source, target(path, specifier)).split("/");
        if (specifier.startsWith(".") && other === folder && height(there[0]!) > height(inside[0]!))
          upward.push(`${short(path)} imports ${specifier}`);
      }
    }
    expect(upward).toEqual([]);
  });

  it("has one file of the engine beside its sub-folders", () => {
    const beside = files.filter((path) => dirname(path) === join(source, "engine"));
    expect(beside.map(short)).toEqual(["src/engine/index.ts"]);
  });

  it("names types of WebGPU in engine/webgpu alone", () => {
    const outside = files.filter((path) => !path.startsWith(join(source, "engine/webgpu/")));
    expect(outside.length).toBeGreaterThan(100);
    expect(outside.filter((path) => /\b(?:GPU[A-Z]\w*|navigator)\b/.test(texts.get(path)!)).map(short)).toEqual([]);
  });

  it("has no import cycle", () => {
    const finished = new Set<string>();
    const cycles: string[] = [];
    const visit = (path: string, stack: string[]) => {
      if (stack.includes(path)) {
        cycles.push([...stack.slice(stack.indexOf(path)), path].map(short).join(" -> "));
        return;
      }
      if (finished.has(path)) return;
      for (const { specifier, typeOnly } of importsOf(texts.get(path)!)) {
        // Types are erased: two nouns may name each other's types.
        if (!typeOnly && specifier.startsWith(".") && texts.has(target(path, specifier)))
          visit(target(path, specifier), [...stack, path]);
      }
      finished.add(path);
    };
    for (const path of files) visit(path, []);
    expect(cycles).toEqual([]);
  });

  it("can be imported by a page: the engine loads Node's modules only when it needs them", () => {
    const reached = new Set([join(source, "engine/index.ts")]);
    const outside = new Set<string>();
    for (const path of reached) {
      for (const { specifier, typeOnly } of statementsOf(texts.get(path)!)) {
        if (typeOnly) continue;
        if (specifier.startsWith(".")) reached.add(target(path, specifier));
        else outside.add(specifier);
      }
    }
    expect(reached.size).toBeGreaterThan(30);
    expect([...outside].sort()).toEqual(["@huggingface/tokenizers", "zod"]);
  });

  it("holds one noun per file, in fewer than 320 lines", () => {
    const long = files.filter((path) => texts.get(path)!.split("\n").length > 320);
    expect(long.map((path) => `${short(path)}: ${texts.get(path)!.split("\n").length}`)).toEqual([]);
    const vague = files.filter((path) => /(^|[/-])(utils?|helpers?|common|managers?|misc)\.ts$/.test(path));
    expect(vague.map(short)).toEqual([]);
  });

  it("leaves nothing to be done later, and no test left out", () => {
    const marker = new RegExp(
      ["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"].map((word) => `\\b${word}\\b`).join("|"),
    );
    const code = filesUnder(join(root, "test"), /\.ts$/).concat(files);
    expect(code.filter((path) => marker.test(readFileSync(path, "utf8"))).map(short)).toEqual([]);
    const skipped = /\b(it|test|describe)\.(skip|only|todo)\b/;
    expect(
      code
        .filter((path) => skipped.test(readFileSync(path, "utf8")) && !path.endsWith("architecture.test.ts"))
        .map(short),
    ).toEqual([]);
  });

  it("does not depend on this checkout's place", () => {
    const place = /(?:"|'|`)\/(?:home|root|work|tmp|Users)\//;
    expect(files.filter((path) => place.test(texts.get(path)!)).map(short)).toEqual([]);
  });
});
