import { spawn } from "node:child_process";
import { createWriteStream, mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Graph } from "../../spec/graph.js";
import { InputError } from "../../tensor/errors.js";
import { attributesOf, refuse } from "../program/typed-node.js";
import { decodeKind, headDims, moduleOf } from "./geometry.js";
import { builtFolder } from "./module-folder.js";
import { type AttentionModule, moduleName } from "./module-names.js";

export interface BuildOptions {
  /** Command that starts the Python in which FlashInfer is installed. */
  readonly python: string;
  /** Besides page, norm and rope. */
  readonly modules: readonly AttentionModule[];
  /** Called with the share of the commands that have ended. */
  readonly progress?: (done: number) => void;
}

/** What was built, by what. */
export interface Built {
  readonly flashinfer: string;
  readonly tvmFfi: string;
  readonly modules: number;
}

/** What the program says besides ninja's lines. */
type Told = { readonly missing: string } | { readonly failed: string } | { readonly built: Built };

const program = fileURLToPath(new URL("build-modules.py", import.meta.url));

/** The attention modules that a model asks for, each once. @throws InputError when FlashInfer has none for one of its layers. */
export function modulesOf(graph: Graph): AttentionModule[] {
  const modules = new Map<string, AttentionModule>();
  for (const node of graph.nodes.values()) {
    if (node.op.kind !== "attention") continue;
    const { heads, keyValueHeads: kvHeads, headDim, softCap = 0, windowLeft = -1 } = attributesOf(node, "attention");
    if (!headDims.includes(headDim)) {
      refuse(node, `${headDim} channels of a head, FlashInfer has modules for ${headDims.join(", ")}`);
    }
    const geometry = { heads, kvHeads, headDim, pageSize: 1, windowLeft, softCap };
    for (const kind of new Set([decodeKind(geometry), "prefill"] as const)) {
      const module = moduleOf(kind, geometry);
      modules.set(moduleName(module), module);
    }
  }
  return [...modules.values()];
}

/**
 * Builds modules with the user's own FlashInfer, its generator, nvcc and ninja, into `builtFolder()`.
 * @throws InputError in one sentence when something that it needs is not there, or does not compile.
 */
export async function buildModules({ python, modules, progress }: BuildOptions): Promise<Built> {
  const folder = builtFolder();
  mkdirSync(folder, { recursive: true });
  const log = join(folder, "build.log");
  const written = createWriteStream(log);
  const child = spawn(python, [program, JSON.stringify({ folder, modules })], { stdio: ["ignore", "pipe", "pipe"] });
  const failure = new Promise<Error | undefined>((resolve) => child.once("error", resolve));
  const closed = new Promise<undefined>((resolve) => child.once("close", () => resolve(undefined)));
  let told: Told | undefined;
  createInterface(child.stdout).on("line", (line) => {
    written.write(`${line}\n`);
    const step = /^\[(\d+)\/(\d+)\]/.exec(line);
    if (step) progress?.(Number(step[1]) / Number(step[2]));
    else if (/^\{"(missing|failed|built)":/.test(line)) told = JSON.parse(line) as Told;
  });
  child.stderr.on("data", (text) => written.write(text));
  const error = await Promise.race([failure, closed]);
  await new Promise<void>((resolve) => written.end(resolve));
  if (error)
    throw new InputError(
      `--python ${python}: ${(error as NodeJS.ErrnoException).code === "ENOENT" ? "there is no such command" : error.message}`,
    );
  if (told && "built" in told) return told.built;
  if (told && "missing" in told) throw new InputError(told.missing);
  throw new InputError(`FlashInfer's modules could not be built, ${log} says why${told ? `: ${told.failed}` : ""}`);
}
