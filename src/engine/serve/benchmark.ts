import type { ModelConfig } from "../../spec/models/config.js";
import { decoderGraph } from "../../spec/models/decoder.js";
import type { Backend, Launch } from "../device/backend.js";
import type { BatchShape } from "../device/batch-buffer.js";
import { DecoderPath, type PathOptions } from "../device/decoder-path.js";
import type { Weights } from "../device/weights.js";
import { allFusions, type Fusions, noFusions } from "../program/fusions.js";
import { standardProgram } from "../program/standard-program.js";
import type { Step } from "../program/step.js";
import { type BatchSpeed, measureBatch } from "./batch-speed.js";
import { median } from "./median.js";
import { pageSize, sequencesBatch } from "./sequences-batch.js";

/** Speed of the paths on one model and device: what `faultline bench engine` prints. */

export interface BenchmarkOptions {
  /** @default 128 */
  readonly promptTokens?: number;
  /** @default 256 */
  readonly newTokens?: number;
  /** Tokens of the prefill measurement. @default 2048 */
  readonly prefillTokens?: number;
  /** Measurements per number; the median counts. @default 5 */
  readonly repeats?: number;
  /** Rounds before the first measurement. @default 4 */
  readonly warmUps?: number;
  /** Sizes of a batch and lengths of its sequences that decode is measured at besides. @default none */
  readonly batches?: readonly number[];
  readonly contexts?: readonly number[];
  readonly onProgress?: (sentence: string) => void;
}

const standardOptions = { promptTokens: 128, newTokens: 256, prefillTokens: 2048, repeats: 5, warmUps: 4 };
export interface PathSpeed {
  readonly name: string;
  /** Dispatches of one decode step, sampling included. */
  readonly dispatchesPerToken: number;
  /** null when prefill was not measured. */
  readonly prefillTokensPerSecond: number | null;
  readonly decodeTokensPerSecond: number;
  /** Decode of every run, of which the one above is the median. */
  readonly decodeRuns: readonly number[];
  /** From the prompt of `promptTokens` to its first token on the host, milliseconds. */
  readonly timeToFirstToken: number;
  /** GPU time of one decode step and of one prefill by kernel, microseconds; empty without timestamps. */
  readonly decodeKernels: readonly KernelTime[];
  readonly prefillKernels: readonly KernelTime[];
  /** Decode of batches, where that was asked for. */
  readonly batches: readonly BatchSpeed[];
}

export interface KernelTime {
  readonly label: string;
  readonly count: number;
  readonly microseconds: number;
}

export interface BenchmarkResult {
  readonly gpu: string;
  readonly weightBytes: number;
  /** Bytes per second of a kernel that only reads; null without timestamps. */
  readonly readBandwidth: number | null;
  /** Tokens per second if reading every weight once were all there is; null without timestamps. */
  readonly floorTokensPerSecond: number | null;
  readonly standard: PathSpeed;
  readonly fused: PathSpeed;
  /** The fused path with one fusion off. */
  readonly without: readonly { readonly fusion: keyof Fusions; readonly speed: PathSpeed }[];
}

/** Measures both paths, and the fused one with each fusion off. */
export async function benchmark(
  backend: Backend,
  config: ModelConfig,
  weights: Weights,
  options: BenchmarkOptions = {},
): Promise<BenchmarkResult> {
  const steps = standardProgram(decoderGraph(config));
  const readBandwidth = await measureReadBandwidth(backend, steps, weights);
  const perToken = decodeBytes(steps, weights);
  const { repeats } = { ...standardOptions, ...options };
  const measure = async (name: string, fusions: Fusions, prefill: boolean): Promise<PathSpeed> => {
    options.onProgress?.(name);
    const speed = await measurePath(backend, config, weights, name, fusions, prefill, options);
    const batches: BatchSpeed[] = [];
    for (const context of prefill ? (options.contexts ?? []) : []) {
      for (const sequences of options.batches ?? []) {
        options.onProgress?.(`${name}, ${sequences} sequences of ${context} keys`);
        const open = (settings: PathOptions) => new DecoderPath(name, backend, config, weights, fusions, settings);
        batches.push(await measureBatch(open, steps, { sequences, context, perToken, readBandwidth }, repeats));
      }
    }
    return { ...speed, batches };
  };
  const standard = await measure("standard", noFusions, true);
  const fused = await measure("fused", allFusions, true);
  const without: { fusion: keyof Fusions; speed: PathSpeed }[] = [];
  for (const fusion of Object.keys(allFusions) as (keyof Fusions)[]) {
    // Without the rotary kernel there is nothing for the prologue to hold.
    const fusions = { ...allFusions, [fusion]: false, ...(fusion === "rotary" ? { prologue: false } : {}) };
    without.push({ fusion, speed: await measure(`fused without ${fusion}`, fusions, false) });
  }
  return {
    gpu: backend.name,
    weightBytes: perToken,
    readBandwidth,
    floorTokensPerSecond: readBandwidth === null ? null : readBandwidth / perToken,
    standard,
    fused,
    without,
  };
}

/** Bytes of weights one decode step reads: everything but the embedding rows, of which it reads one. */
function decodeBytes(steps: readonly Step[], weights: Weights): number {
  const tables = steps.flatMap((step) => (step.kind === "embed" ? [step.table] : []));
  const multiplied = new Set(steps.flatMap((step) => (step.kind === "project" ? step.weights : [])));
  const skipped = tables.filter((table) => !multiplied.has(table));
  return skipped.reduce((sum, table) => sum - weights.matrix(table).matrix.buffer.size, weights.byteLength);
}

async function measurePath(
  backend: Backend,
  config: ModelConfig,
  weights: Weights,
  name: string,
  fusions: Fusions,
  prefill: boolean,
  options: BenchmarkOptions,
): Promise<Omit<PathSpeed, "batches">> {
  const { promptTokens, newTokens, prefillTokens } = { ...standardOptions, ...options };
  const longest = Math.max(promptTokens + newTokens, prefill ? prefillTokens : 0);
  const settings: PathOptions = {
    pageCount: Math.ceil(longest / pageSize) + 1,
    pageSize,
    maxRows: Math.max(promptTokens, prefill ? prefillTokens : 0),
    maxSequences: 1,
  };
  const path = new DecoderPath(name, backend, config, weights, fusions, settings);
  try {
    const decoded = await measureDecode(path, options);
    const prefilled = prefill ? await measurePrefill(path, options) : noPrefill;
    return { name, ...decoded, ...prefilled };
  } finally {
    path.dispose();
  }
}

type DecodeSpeed = Omit<PathSpeed, "name" | "batches" | keyof PrefillSpeed>;
type PrefillSpeed = Pick<PathSpeed, "prefillTokensPerSecond" | "prefillKernels">;
const noPrefill: PrefillSpeed = { prefillTokensPerSecond: null, prefillKernels: [] };

async function measureDecode(path: DecoderPath, options: BenchmarkOptions): Promise<DecodeSpeed> {
  const { promptTokens, newTokens, repeats, warmUps } = { ...standardOptions, ...options };
  const { vocabularySize } = path.config;
  const prompt = sequencesBatch(1, 0, promptTokens, promptTokens, vocabularySize);
  const firstPage = Math.ceil((promptTokens + 1) / pageSize);
  const reserve = [Array.from({ length: path.pageCount - firstPage }, (_, i) => firstPage + i)];
  const first: number[] = [];
  const decodeRuns: number[] = [];
  for (let i = 0; i < repeats + 1 + warmUps; i++) {
    const start = performance.now();
    const { tokenIds } = await path.forward(prompt);
    const middle = performance.now();
    const batch = { ...sequencesBatch(1, promptTokens, 1, promptTokens, vocabularySize), tokenIds };
    await path.decode(batch, { steps: newTokens, reserve, stepsPerRead: 8 });
    // The first round compiles, and an idle GPU takes a while to reach its clocks.
    if (i <= warmUps) continue;
    first.push(middle - start);
    decodeRuns.push((newTokens / (performance.now() - middle)) * 1000);
  }
  const step = await path.launches(
    sequencesBatch(1, promptTokens + Math.floor(newTokens / 2), 1, promptTokens, vocabularySize),
  );
  return {
    dispatchesPerToken: step.launches.length,
    decodeTokensPerSecond: median(decodeRuns),
    decodeRuns,
    timeToFirstToken: median(first),
    decodeKernels: await kernelTimes(path.backend, step),
  };
}

async function measurePrefill(path: DecoderPath, options: BenchmarkOptions): Promise<PrefillSpeed> {
  const { prefillTokens, repeats, warmUps } = { ...standardOptions, ...options };
  const batch = sequencesBatch(1, 0, prefillTokens, prefillTokens, path.config.vocabularySize);
  const speeds: number[] = [];
  for (let i = 0; i < repeats + 1 + warmUps; i++) {
    const start = performance.now();
    await path.forward(batch);
    if (i > warmUps) speeds.push((prefillTokens / (performance.now() - start)) * 1000);
  }
  const prefillKernels = await kernelTimes(path.backend, await path.launches(batch));
  return { prefillTokensPerSecond: median(speeds), prefillKernels };
}

async function kernelTimes(
  backend: Backend,
  { shape, launches }: { readonly shape: BatchShape; readonly launches: readonly Launch[] },
): Promise<KernelTime[]> {
  if (!backend.canTime) return [];
  // An idle GPU clocks down while the host compiles: busy it first.
  for (let i = 0; i < 10; i++) await backend.time(launches, shape);
  const times = await backend.time(launches, shape);
  const byLabel = new Map<string, { label: string; count: number; microseconds: number }>();
  launches.forEach(({ label }, i) => {
    const entry = byLabel.get(label) ?? { label, count: 0, microseconds: 0 };
    entry.count++;
    entry.microseconds += times[i]! / 1000;
    byLabel.set(label, entry);
  });
  return [...byLabel.values()];
}

async function measureReadBandwidth(
  backend: Backend,
  steps: readonly Step[],
  weights: Weights,
): Promise<number | null> {
  if (!backend.canTime) return null;
  // The largest matrix: a small one would be read from a cache.
  const names = steps.flatMap((step) => (step.kind === "project" ? step.weights : []));
  const buffers = names.map((name) => weights.matrix(name).matrix.buffer);
  const buffer = buffers.reduce((largest, other) => (other.size > largest.size ? other : largest));
  const launch = await backend.reader(buffer);
  const launches = Array.from({ length: 8 }, () => launch);
  const shape = { rows: 1, sequences: 1, splitCount: 1, tileCount: 0 };
  await backend.time(launches, shape);
  return (buffer.size / median(await backend.time(launches, shape))) * 1e9;
}
