import { rmSync } from "node:fs";
import { basename, join } from "node:path";
import { openCapture } from "../capture/reader.js";
import { Investigation } from "../diagnose/investigation.js";
import { type Limits, unitClass } from "../diagnose/limits.js";
import { choosePrecision } from "../diagnose/precision.js";
import type { Statistics } from "../diagnose/statistics.js";
import type { GraphNode } from "../spec/graph.js";
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

/** Extremes by op kind, dtype, and whether the unit is one op or a chain with unrecorded values inside. */
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
    const key = `${node.op.kind} ${precision.compute === "tf32" ? "tf32" : precision.store} ${extentOf(model, node, statistics)}`;
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

/** Whether the unit is one op, a chain with unrecorded values inside, or a chain with a matrix product among them. */
function extentOf({ graph }: LabModel, node: GraphNode, recorded: ReadonlyMap<string, unknown>): string {
  const pending = node.inputs.filter((input) => !recorded.has(input));
  if (pending.length === 0) return "op";
  const inside = new Set<string>();
  while (pending.length > 0) {
    const name = pending.pop()!;
    if (inside.has(name)) continue;
    inside.add(name);
    pending.push(...graph.node(name).inputs.filter((input) => !recorded.has(input)));
  }
  return unitClass([...inside].map((name) => graph.node(name).op.kind)) === "product" ? "chain with product" : "chain";
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

export interface CalibrateOptions {
  /** Models that drawn implementations run. */
  readonly models: readonly LabModel[];
  readonly draws: number;
  readonly margin: number;
  readonly folder: string;
  /** Recordings of correct runs of `recorded`. */
  readonly recordings: readonly string[];
  readonly recorded: LabModel | undefined;
  readonly progress?: (text: string) => void;
}

/** The committed artefact behind every verdict: limits, and where they come from. */
export interface CalibrationResult {
  /** Over all kinds of op. */
  readonly limits: Limits;
  /** Units with a matrix product in them, and others: the columns of a product share the rounding of its input. */
  readonly limitsByClass: { readonly product: Limits; readonly other: Limits };
  readonly margin: number;
  readonly draws: number;
  readonly recordings: readonly string[];
  readonly worst: Calibration;
}

/** Judges recordings of correct runs, and runs of drawn correct implementations; limits are their worst times a margin. */
export function calibrate(options: CalibrateOptions): CalibrationResult {
  const { models, draws, margin, folder, recordings, recorded, progress = () => {} } = options;
  const worst: Calibration = {};
  recordings.forEach((path, i) => {
    progress(`recording ${i + 1} of ${recordings.length}`);
    const precision = recordedPrecision(path, recorded!);
    accumulate(worst, recorded!, unitStatistics(path, recorded!, precision), precision);
  });
  let done = 0;
  for (const { model, statistics, precision } of legalRuns(models, draws, folder)) {
    accumulate(worst, model, statistics, precision);
    progress(`correct implementation ${++done} of ${draws}`);
  }
  const sorted = Object.fromEntries(Object.entries(worst).sort(([a], [b]) => (a < b ? -1 : 1)));
  for (const extremes of Object.values(sorted)) {
    for (const measure of measures) extremes[measure] = Math.round(extremes[measure] * 1000) / 1000;
  }
  const products = Object.keys(worst).filter(
    (key) => unitClass([key.split(" ")[0]!]) === "product" || key.endsWith(" product"),
  );
  const others = Object.keys(worst).filter((key) => !products.includes(key));
  return {
    limits: limitsOf(Object.values(worst), margin),
    limitsByClass: {
      product: limitsOf(
        products.map((key) => worst[key]!),
        margin,
      ),
      other: limitsOf(
        others.map((key) => worst[key]!),
        margin,
      ),
    },
    margin,
    draws,
    recordings: recordings.map((path) => basename(path)),
    worst: sorted,
  };
}

function limitsOf(worst: readonly Extremes[], margin: number): Limits {
  const widest = (measure: keyof Limits) =>
    Math.ceil(Math.max(0, ...worst.map((extremes) => extremes[measure])) * margin * 10) / 10;
  return {
    rmsZ: widest("rmsZ"),
    maxZ: widest("maxZ"),
    rowGainZ: widest("rowGainZ"),
    columnGainZ: widest("columnGainZ"),
    columnOffsetZ: widest("columnOffsetZ"),
  };
}

/** What a recording was stored and computed in, as the diagnosis sees it. */
function recordedPrecision(path: string, model: LabModel): Precision {
  const capture = openCapture(path);
  try {
    return choosePrecision(new Investigation(capture, model.config, model.parameters)).precision;
  } finally {
    capture.close();
  }
}
