import { rmSync } from "node:fs";
import { join } from "node:path";
import type { DType } from "../tensor/dtype.js";
import { type BatchLengths, lengthsFor, randomSteps } from "./batch.js";
import type { Fault, FaultValues } from "./fault.js";
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
  readonly run: LabRun;
}

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
  const plain = lengths.length === 1 && new Set(lengths[0]).size === 1;
  const path = join(folder, `${fault.id}-${seed}-${store}${plain ? ".safetensors" : ""}`);
  const run = runLab({
    model,
    store,
    path,
    steps: randomSteps(random, model.config.vocabularySize, lengths),
    faults: [{ fault, layers, values }],
    lastTokens: fault.situation === "last-token",
    ...(options.legal ? { implement: (graph) => legalImplementation(graph, model.parameters, store, random) } : {}),
  });
  return { fault, model, store, layers, values, run };
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
