import { rmSync } from "node:fs";
import { join } from "node:path";
import type { DType } from "../tensor/dtype.js";
import { type BatchLengths, lengthsFor, randomSteps } from "./batch.js";
import { choose, type Fault, type FaultValues } from "./fault.js";
import { legalImplementation } from "./legal.js";
import type { LabModel } from "./model.js";
import { randomGenerator, seedOf } from "./random.js";
import { type LabRun, runLab } from "./run.js";
import { unitChecks } from "./units.js";

/** One fault with drawn settings in one run of a model. */
export interface Trial {
  readonly fault: Fault;
  readonly model: LabModel;
  readonly store: DType;
  readonly layers: readonly number[];
  readonly values: FaultValues;
  readonly recorded: Recorded;
  readonly run: LabRun;
}

/** What a trial records: everything, everything of some layers (the fault's among them or before them), the stream alone. */
export type Recorded = "all" | "some layers" | "stream";

export interface TrialOptions {
  readonly model: LabModel;
  readonly fault: Fault;
  readonly store: DType;
  readonly seed: number;
  /** Folder for the recording. */
  readonly folder: string;
  /** Layers to put it into; one drawn layer unless given. */
  readonly layers?: readonly number[];
  /** Draw also how the rest is computed. */
  readonly legal?: boolean;
  /** Record a part of the run only, drawn. */
  readonly partial?: boolean;
  readonly lengths?: BatchLengths;
}

/** Layers of `model` that a fault can be put into. */
export function possibleLayers({ config }: LabModel, fault: Fault, store: DType): number[] {
  if (fault.scope === "model") return fault.applies(config, store, -1) ? [-1] : [];
  return Array.from({ length: config.layerCount }, (_, layer) => layer).filter((layer) =>
    fault.applies(config, store, layer),
  );
}

/** Runs the model with the fault and records it; undefined when the fault does not apply to the model. */
export function runTrial({ model, fault, store, seed, folder, ...options }: TrialOptions): Trial | undefined {
  const possible = possibleLayers(model, fault, store);
  if (possible.length === 0) return undefined;
  const random = randomGenerator(seedOf(`${fault.id} ${seed}`));
  const drawn = possible[Math.floor(random() * possible.length)]!;
  const layers = (options.layers ?? [drawn]).filter((layer) => possible.includes(layer) || fault.scope === "model");
  if (layers.length === 0) return undefined;
  const values = fault.parameters(random, model.config);
  const lengths = options.lengths ?? lengthsFor(fault.situation);
  const ranks = fault.situation === "ranks" ? Number(values.ranks) : 1;
  const plain = ranks === 1 && lengths.length === 1 && new Set(lengths[0]).size === 1;
  const path = join(folder, `${fault.id}-${seed}-${store}${plain ? ".safetensors" : ""}`);
  const recorded = options.partial ? choose<Recorded>(random, ["some layers", "stream"]) : "all";
  const run = runLab({
    model,
    store,
    path,
    steps: randomSteps(random, model.config.vocabularySize, lengths),
    faults: [{ fault, layers, values }],
    lastTokens: fault.situation === "last-token",
    ranks,
    ...(fault.situation === "paged" ? { cache: { dtype: store, layout: "NHD" as const, pageSize: 4 } } : {}),
    streamOnly: recorded === "stream",
    ...(recorded === "some layers" ? { layers: everyOther(model.config.layerCount, random) } : {}),
    ...(options.legal ? { implement: (graph, held) => legalImplementation(graph, held, store, random) } : {}),
  });
  return { fault, model, store, layers, values, recorded, run };
}

/** Layers 0, 2, 4, … or 1, 3, 5, …: every other layer lies inside a unit. */
function everyOther(count: number, random: () => number): number[] {
  const first = random() < 0.5 || count < 2 ? 0 : 1;
  return Array.from({ length: Math.ceil((count - first) / 2) }, (_, i) => first + 2 * i);
}

/** Units of a trial that the spec does not give, each judged on its own recorded inputs: beyond rounding, or not in these bits. */
export function unitsBeyondNoise({ run, model }: Trial): Map<string, number> {
  return new Map(
    unitChecks(run.path, model)
      .filter(({ excess, matched, bits }) => excess > 1 || (bits !== undefined && !matched))
      .map(({ node, excess }) => [node.name, excess]),
  );
}

/** Removes a trial's recording. */
export function discard({ run }: Trial): void {
  rmSync(run.path, { recursive: true, force: true });
}
