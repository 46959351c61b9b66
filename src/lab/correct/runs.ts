import { rmSync } from "node:fs";
import { join } from "node:path";
import { diagnose } from "../../diagnose/diagnose.js";
import type { Verdict } from "../../diagnose/tell/verdict.js";
import type { DType } from "../../tensor/dtype.js";
import { type FirstDifference, firstDifferences } from "../baselines.js";
import { choose } from "../fault.js";
import { legalImplementation } from "../legal.js";
import type { LabModel } from "../model.js";
import type { BatchPadding } from "../padded-batch.js";
import type { CacheLayout } from "../paged-cache.js";
import { randomGenerator, seedOf } from "../random.js";
import { type LabRun, type RunOptions, runLab } from "../run.js";
import { writeTinyModel } from "../tiny-model.js";
import { type CorrectModel, correctModels } from "./models.js";
import { type Text, texts } from "./texts.js";

/** One correct run of the public set: everything about it follows from its model and number. */
export interface CorrectRun {
  readonly model: CorrectModel;
  readonly number: number;
}

/** The verdict on a correct run. */
export interface CorrectScore {
  readonly id: string;
  readonly model: string;
  readonly text: string;
  readonly store: DType;
  readonly accused: boolean;
  /** Causes and units accused, of which a correct run has none. */
  readonly causes: readonly string[];
  readonly findings: readonly string[];
  /** What was drawn: recipes, values kept, padding, cache, layers recorded. */
  readonly drawn: Readonly<Record<string, unknown>>;
  readonly milliseconds: number;
  /** The first value that other ways to compare would have called wrong; absent unless asked for. */
  readonly baselines?: FirstDifference;
}

/** The first `count` runs of the set, one model after the other. */
export function correctRuns(count: number): CorrectRun[] {
  const round = correctModels.reduce((sum, { share }) => sum + share, 0);
  const all = correctModels.flatMap((model) =>
    Array.from({ length: Math.ceil((count * model.share) / round) }, (_, number) => ({ model, number })),
  );
  // Shares are rounded up: what is too much is taken from the models that have most.
  return all
    .map((run, order) => ({ run, order, rank: run.number / run.model.share }))
    .sort((a, b) => a.rank - b.rank || a.order - b.order)
    .slice(0, count)
    .sort((a, b) => a.order - b.order)
    .map(({ run }) => run);
}

/**
 * Records each run in `folder`, diagnoses it, and says what was accused.
 * @param folder receives models and recordings; each recording is removed once judged.
 * @param baselines also compare each run with a plain one, the way people do without a checker.
 */
export async function* judgeCorrectRuns(
  runs: readonly CorrectRun[],
  folder: string,
  baselines = false,
): AsyncGenerator<CorrectScore> {
  let model: LabModel | undefined;
  let made = "";
  for (const run of runs) {
    if (!model || made !== run.model.id) {
      if (made) rmSync(join(folder, made), { recursive: true, force: true });
      made = run.model.id;
      model = writeTinyModel(join(folder, made), run.model.options);
    }
    const { recording, text, drawn } = recordCorrectRun(run, model, folder);
    try {
      const start = performance.now();
      const verdict = await diagnose({ target: recording.path, model: model.directory });
      yield {
        id: `${run.model.id}-${run.number}`,
        model: run.model.id,
        text: text.id,
        store: recording.precision.store,
        ...accusations(verdict),
        drawn: { ...recording.implementation.description, ...drawn },
        milliseconds: performance.now() - start,
        ...(baselines ? { baselines: firstDifferences(model, recording) } : {}),
      };
    } finally {
      rmSync(recording.path, { recursive: true, force: true });
    }
  }
}

function accusations({ verdict, causes, findings }: Verdict) {
  return {
    accused: causes.length + findings.length > 0 || verdict !== "clean",
    causes: causes.map(({ cause, units }) => `${cause} (${units.join(", ")})`),
    findings: findings.map(({ unit }) => unit),
  };
}

interface Recorded {
  readonly recording: LabRun;
  readonly text: Text;
  readonly drawn: Readonly<Record<string, unknown>>;
}

/** Draws and records one run. */
export function recordCorrectRun(
  { model: { id, longest = 40 }, number }: CorrectRun,
  model: LabModel,
  folder: string,
): Recorded {
  const random = randomGenerator(seedOf(`correct ${id} ${number}`));
  const store = choose<DType>(random, ["bfloat16", "bfloat16", "float16", "float32"]);
  const text = texts[number % texts.length]!;
  const steps = text.steps(random, model.config.vocabularySize, longest);
  const shape = drawShape(text, store, random);
  const layers = drawLayers(model, random);
  const lastTokens = random() < 0.25;
  const plain = text.plain ? shape.cache === undefined : shape.padding !== undefined;
  const options: RunOptions = {
    model,
    store,
    steps,
    path: join(folder, `${id}-${number}${plain ? ".safetensors" : ""}`),
    lastTokens: lastTokens && !plain,
    implement: (graph) => legalImplementation(graph, model.parameters, store, random),
    ...(layers ? { layers } : {}),
    // From numbers of its own: the other draws stay what they were.
    streamOnly: randomGenerator(seedOf(`stream ${id} ${number}`))() < 0.1,
    ...shape,
  };
  const { padding, cache } = shape;
  return {
    recording: runLab(options),
    text,
    drawn: { layers, lastTokens: options.lastTokens, streamOnly: options.streamOnly, padding, cache: cacheName(cache) },
  };
}

function drawShape(text: Text, store: DType, random: () => number): { padding?: BatchPadding; cache?: CacheLayout } {
  if (text.ragged && random() < 0.6) return { padding: drawPadding(random) };
  return random() < (text.plain ? 0.2 : 0.6) ? { cache: drawCache(store, random) } : {};
}

function drawPadding(random: () => number): BatchPadding {
  const rotary = choose(random, ["counts", "columns"] as const);
  return {
    side: choose(random, ["left", "right"]),
    token: 0,
    rotary,
    recorded: rotary === "counts" || random() < 0.5 ? ["attention_mask", "position_ids"] : ["attention_mask"],
  };
}

/** Pages of the run's type, or narrow ones with a scale per layer and side. */
function drawCache(store: DType, random: () => number): CacheLayout {
  const dtype = choose<DType>(random, [store, store, "float8_e4m3fn", "float8_e5m2", "int8"]);
  const combined = choose(random, [undefined, undefined, "page", "buffer"] as const);
  const claimed = random() < 0.5;
  const base = dtype === "int8" ? 0.25 : 0.125;
  const scaleOf = (name: string) => base * (1 + (seedOf(name) % 8) / 8);
  return {
    dtype,
    layout: choose(random, ["NHD", "HND"]),
    pageSize: choose(random, [1, 4, 16]),
    roundedReads: random() < 0.5,
    ...(combined ? { combined } : {}),
    ...(dtype === store
      ? {}
      : {
          scales: (name: string) => {
            const written = scaleOf(name);
            return claimed ? { written, claimed: { output: written, input: written } } : { written };
          },
        }),
  };
}

function cacheName(cache?: CacheLayout): string | undefined {
  return cache && [cache.dtype, cache.layout, `pages of ${cache.pageSize}`, cache.combined ?? "apart"].join(", ");
}

/** Some layers of the model in one run of four; undefined for all. */
function drawLayers({ config }: LabModel, random: () => number): number[] | undefined {
  const every = Array.from({ length: config.layerCount }, (_, layer) => layer);
  const chosen = every.filter(() => random() < 0.5);
  return random() < 0.25 && chosen.length > 0 ? chosen : undefined;
}
