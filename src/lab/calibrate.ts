import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Statistics } from "../diagnose/statistics.js";
import type { Precision } from "../spec/noise.js";
import type { DType } from "../tensor/dtype.js";
import { type BatchLengths, randomSteps } from "./batch.js";
import { choose } from "./fault.js";
import { legalImplementation } from "./legal.js";
import type { LabModel } from "./model.js";
import { randomGenerator } from "./random.js";
import { runLab } from "./run.js";
import { unitStatistics } from "./units.js";

/** Worst statistics that correct implementations showed, per group of units. */
export interface Extremes {
  units: number;
  rmsZ: number;
  maxZ: number;
  rowGainZ: number;
  columnGainZ: number;
  columnOffsetZ: number;
  gainZ: number;
  nonFinite: number;
}

/** Extremes by "op kind, store dtype, whether the unit is one op or a chain with unrecorded values inside". */
export type Calibration = Record<string, Extremes>;

const measures = ["rmsZ", "maxZ", "rowGainZ", "columnGainZ", "columnOffsetZ", "gainZ", "nonFinite"] as const;

/** Adds a recording's units to the extremes. */
export function accumulate(
  calibration: Calibration,
  model: LabModel,
  statistics: ReadonlyMap<string, Statistics>,
  precision: Precision,
): void {
  for (const [name, unit] of statistics) {
    if (unit.checked === 0) continue;
    const node = model.graph.node(name);
    const extent = node.inputs.every((input) => statistics.has(input)) ? "op" : "chain";
    const key = `${node.op.kind} ${precision.compute === "tf32" ? "tf32" : precision.store} ${extent}`;
    calibration[key] ??= {
      units: 0,
      rmsZ: 0,
      maxZ: 0,
      rowGainZ: 0,
      columnGainZ: 0,
      columnOffsetZ: 0,
      gainZ: 0,
      nonFinite: 0,
    };
    const extremes = calibration[key]!;
    extremes.units++;
    for (const measure of measures) extremes[measure] = Math.max(extremes[measure], unit[measure]);
  }
}

export const storeTypes: readonly DType[] = ["bfloat16", "float16", "float32"];

const shapes: readonly BatchLengths[] = [
  [[24]],
  [[11], [1]],
  [
    [9, 14, 5],
    [1, 1, 1],
  ],
  [[16, 16]],
];

export interface LegalRun {
  readonly seed: number;
  readonly model: LabModel;
  readonly precision: Precision;
  readonly description: Readonly<Record<string, unknown>>;
  readonly statistics: ReadonlyMap<string, Statistics>;
}

/** Runs `count` legal implementations of `models`, one after the other, and judges each unit. */
export function* legalRuns(
  models: readonly LabModel[],
  count: number,
  folder: string,
  firstSeed = 1,
): Generator<LegalRun> {
  for (let seed = firstSeed; seed < firstSeed + count; seed++) {
    const random = randomGenerator(seed * 104729);
    const model = models[seed % models.length]!;
    const store = storeTypes[Math.floor(seed / models.length) % storeTypes.length]!;
    const steps = randomSteps(random, model.config.vocabularySize, choose(random, shapes));
    const equal = steps.length === 1;
    const path = join(folder, `legal-${seed}${equal ? ".safetensors" : ""}`);
    const run = runLab({
      model,
      steps,
      store,
      path,
      implement: (graph) => legalImplementation(graph, model.parameters, store, random),
    });
    try {
      const statistics = unitStatistics(path, model, run.precision);
      yield { seed, model, precision: run.precision, description: run.implementation.description, statistics };
    } finally {
      rmSync(path, { recursive: true, force: true });
    }
  }
}

/** Widest known correct values, rounded up with a margin: what a verdict may call rounding. */
export function limitsOf(calibration: Calibration, margin = 1.15): Calibration {
  return Object.fromEntries(
    Object.entries(calibration).map(([key, extremes]) => {
      const widened = { ...extremes };
      for (const measure of measures) widened[measure] = Math.ceil(extremes[measure] * margin * 100) / 100;
      return [key, widened];
    }),
  );
}
