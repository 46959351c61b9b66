import type { ModelConfig } from "../../spec/models/config.js";
import { decoderGraph } from "../../spec/models/decoder.js";
import type { Backend, Launch } from "../device/backend.js";
import type { BatchShape } from "../device/batch-buffer.js";
import { DecoderPath, type PathOptions } from "../device/decoder-path.js";
import type { Weights } from "../device/weights.js";
import { allFusions, type Fusions, noFusions } from "../program/fusions.js";
import { standardProgram } from "../program/standard-program.js";
import type { Step } from "../program/step.js";
import type { Batch } from "../run/batch.js";

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
  readonly onProgress?: (sentence: string) => void;
}

const standardOptions = { promptTokens: 128, newTokens: 256, prefillTokens: 2048, repeats: 5, warmUps: 4 };
const pageSize = 16;

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
  const measure = (name: string, fusions: Fusions, prefill: boolean) => {
    options.onProgress?.(name);
    return measurePath(backend, config, weights, name, fusions, prefill, options);
  };
  const steps = standardProgram(decoderGraph(config));
  const readBandwidth = await measureReadBandwidth(backend, steps, weights);
  const standard = await measure("standard", noFusions, true);
  const fused = await measure("fused", allFusions, true);
  const without: { fusion: keyof Fusions; speed: PathSpeed }[] = [];
  for (const fusion of Object.keys(allFusions) as (keyof Fusions)[]) {
    // Without the rotary kernel there is nothing for the prologue to hold.
    const fusions = { ...allFusions, [fusion]: false, ...(fusion === "rotary" ? { prologue: false } : {}) };
    without.push({ fusion, speed: await measure(`fused without ${fusion}`, fusions, false) });
  }
  const perToken = decodeBytes(steps, weights);
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
): Promise<PathSpeed> {
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

type DecodeSpeed = Omit<PathSpeed, "name" | keyof PrefillSpeed>;
type PrefillSpeed = Pick<PathSpeed, "prefillTokensPerSecond" | "prefillKernels">;
const noPrefill: PrefillSpeed = { prefillTokensPerSecond: null, prefillKernels: [] };

async function measureDecode(path: DecoderPath, options: BenchmarkOptions): Promise<DecodeSpeed> {
  const { promptTokens, newTokens, repeats, warmUps } = { ...standardOptions, ...options };
  const { vocabularySize } = path.config;
  const prompt = sequenceBatch(0, promptTokens, vocabularySize);
  const firstPage = Math.ceil((promptTokens + 1) / pageSize);
  const reserve = [Array.from({ length: path.pageCount - firstPage }, (_, i) => firstPage + i)];
  const first: number[] = [];
  const decodeRuns: number[] = [];
  for (let i = 0; i < repeats + 1 + warmUps; i++) {
    const start = performance.now();
    const { tokenIds } = await path.forward(prompt);
    const middle = performance.now();
    const batch = { ...sequenceBatch(promptTokens, 1, vocabularySize), tokenIds };
    await path.decode(batch, { steps: newTokens, reserve, stepsPerRead: 8 });
    // The first round compiles, and an idle GPU takes a while to reach its clocks.
    if (i <= warmUps) continue;
    first.push(middle - start);
    decodeRuns.push((newTokens / (performance.now() - middle)) * 1000);
  }
  const step = await path.launches(sequenceBatch(promptTokens + Math.floor(newTokens / 2), 1, vocabularySize));
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
  const batch = sequenceBatch(0, prefillTokens, path.config.vocabularySize);
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

/** Rows `first` to `first + count` of one sequence on pages 0, 1, 2, … */
function sequenceBatch(first: number, count: number, vocabulary: number): Batch {
  const length = first + count;
  const pages = Math.ceil(length / pageSize);
  const rows = (f: (i: number) => number) => Int32Array.from({ length: count }, (_, i) => f(i));
  return {
    seqIds: [0],
    tokenIds: rows((i) => ((first + i) * 7919) % vocabulary),
    qoIndptr: Int32Array.from([0, count]),
    positions: rows((i) => first + i),
    kvIndptr: Int32Array.from([0, pages]),
    kvIndices: Int32Array.from({ length: pages }, (_, i) => i),
    kvLastPageLen: Int32Array.from([((length - 1) % pageSize) + 1]),
    slotMapping: rows((i) => first + i),
    pageSize,
  };
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

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
