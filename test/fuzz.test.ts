import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { CaptureObservations } from "../src/capture/observations.js";
import { openCapture } from "../src/capture/reader.js";
import { diagnose } from "../src/diagnose/diagnose.js";
import { promptSteps, randomSteps } from "../src/lab/batch.js";
import { openLabModel } from "../src/lab/model.js";
import { randomGenerator } from "../src/lab/random.js";
import { runLab } from "../src/lab/run.js";
import { Evaluator } from "../src/spec/evaluator.js";
import { indices } from "../src/spec/op.js";
import { type DType, floatFormat } from "../src/tensor/dtype.js";
import { InputError } from "../src/tensor/errors.js";
import { type Files, Mutator } from "./capture/mutations.js";
import {
  type TinyModel,
  tinyConfig,
  writePagedCapture,
  writePlainCapture,
  writeTinyModel,
} from "./capture/tiny-run.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-fuzz-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const model = writeTinyModel(join(folder, "model"));
/** Diagnosis tries many rewrites of what is wrong: with one layer that stays quick. */
const small = writeTinyModel(join(folder, "small"), { ...tinyConfig, num_hidden_layers: 1 });

/** Opens a recording and evaluates every value of the spec that it holds, on every recorded row. */
function evaluateAll(path: string, { graph: spec, checkpoint }: TinyModel): void {
  const capture = openCapture(path);
  try {
    const observations = new CaptureObservations(capture, spec);
    const { graph } = observations;
    const stored = observations.dtype("model.layers.0.input_layernorm") ?? "bfloat16";
    const evaluator = new Evaluator({
      graph,
      parameters: checkpoint,
      rows: observations.rows,
      precision: { store: floatFormat(stored as DType) ? stored : "bfloat16", compute: "float32" },
      observations,
      noise: true,
    });
    for (const node of graph.nodes.values()) {
      if (!observations.has(node.name)) continue;
      const rows = observations.outputRows(node.name);
      for (const row of rows) observations.output(node.name, row);
      evaluator.evaluate(node.name, rows, indices(node.columns));
    }
  } finally {
    capture.close();
  }
}

interface Seed {
  readonly name: string;
  readonly files: Files;
  /** What is opened, below the working folder. */
  readonly target: string;
}

function seedOf(name: string, write: (path: string) => void): Seed {
  const path = join(folder, "seeds", name);
  mkdirSync(join(folder, "seeds"), { recursive: true });
  write(path);
  if (name.endsWith(".safetensors")) return { name, files: new Map([[name, readFileSync(path)]]), target: name };
  return { name, files: new Map(readdirSync(path).map((file) => [file, readFileSync(join(path, file))])), target: "" };
}

/** Two sequences, padded on the left. */
function writePaddedCapture(path: string, { directory }: TinyModel): void {
  const steps = promptSteps([
    [5, 7, 9, 11],
    [6, 8],
  ]);
  const recorded = ["attention_mask", "position_ids"] as const;
  const padding = { side: "left", token: 0, rotary: "columns", recorded } as const;
  runLab({ model: openLabModel(directory), steps, store: "bfloat16", path, padding });
}

/** Keys and values in one storage, in fp8 under a scale that only the writer of the keys claims. */
function writeNarrowCapture(path: string, { directory, config }: TinyModel): void {
  const steps = randomSteps(randomGenerator(2), config.vocabularySize, [
    [4, 2],
    [1, 3],
  ]);
  const scales = (name: string) => ({ written: 0.05, claimed: name.endsWith("k_cache") ? { output: 0.05 } : {} });
  const cache = { layout: "HND", pageSize: 2, combined: "page", dtype: "float8_e4m3fn", scales } as const;
  runLab({ model: openLabModel(directory), steps, store: "bfloat16", path, cache });
}

const seeds = [
  seedOf("plain.safetensors", (path) => writePlainCapture(path, model)),
  seedOf("paged", (path) => writePagedCapture(path, model)),
  seedOf("paged-hnd", (path) => writePagedCapture(path, model, "HND")),
  seedOf("padded.safetensors", (path) => writePaddedCapture(path, model)),
  seedOf("narrow", (path) => writeNarrowCapture(path, model)),
];
const smallSeeds = [
  seedOf("small.safetensors", (path) => writePlainCapture(path, small, 1, 5)),
  seedOf("small-paged", (path) => writePagedCapture(path, small, "NHD", 2)),
  seedOf("small-paged-hnd", (path) => writePagedCapture(path, small, "HND", 2)),
  seedOf("small-padded.safetensors", (path) => writePaddedCapture(path, small)),
  seedOf("small-narrow", (path) => writeNarrowCapture(path, small)),
];
/** A search for causes may take its time (12 s for a unit), whatever the bytes. */
const secondsEach = 15;
const megabytes = 700;

it.each([
  [2000, "opened and evaluated", seeds, (path: string) => evaluateAll(path, model)],
  [
    120,
    "diagnosed",
    smallSeeds,
    async (path: string) => JSON.stringify(await diagnose({ target: path, model: small.directory })),
  ],
] as const)(
  "%d broken captures, %s: an InputError or a result, in bounded time and memory",
  { timeout: 400_000 },
  async (variants, _, seeds, examine) => {
    const outcomes = { refused: 0, examined: 0 };
    for (const [s, seed] of seeds.entries()) {
      const working = join(folder, "working", seed.name);
      mkdirSync(working, { recursive: true });
      for (const [name, bytes] of seed.files) writeFileSync(join(working, name), bytes);
      const mutator = new Mutator(1000 + s);
      for (let i = s; i < variants; i += seeds.length) {
        const { files, what } = mutator.mutate(seed.files);
        const touched = [...files].filter(([name, bytes]) => bytes !== seed.files.get(name));
        for (const [name, bytes] of touched) writeFileSync(join(working, name), bytes);
        const start = process.cpuUsage();
        try {
          await examine(join(working, seed.target));
          outcomes.examined++;
        } catch (error) {
          if (!(error instanceof InputError)) throw new Error(`${seed.name} ${i}: ${what}`, { cause: error });
          expect(error.message, what).toContain(working);
          expect(error.message, what).not.toMatch(/[\p{Cc}]/u);
          outcomes.refused++;
        }
        // Processor time: other programs on the machine do not count.
        const { user, system } = process.cpuUsage(start);
        expect((user + system) / 1e6, `${seed.name} ${i}: ${what}`).toBeLessThan(secondsEach);
        for (const [name] of touched) writeFileSync(join(working, name), seed.files.get(name)!);
      }
      expect(process.memoryUsage().rss / 2 ** 20).toBeLessThan(megabytes);
    }
    // Both kinds of outcome occur often: the mutations are neither all fatal nor all harmless.
    expect(outcomes.refused + outcomes.examined).toBe(variants);
    expect(outcomes.refused).toBeGreaterThan(variants / 5);
    expect(outcomes.examined).toBeGreaterThan(variants / 5);
  },
);
