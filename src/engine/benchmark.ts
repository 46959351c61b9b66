import type { ModelConfig } from "../spec/models/config.js";
import type { Batch } from "./path.js";
import { DecoderPath, type PathOptions } from "./paths/decoder.js";
import { allFusions, type Fusions, noFusions } from "./paths/fusions.js";
import { timeDispatches } from "./paths/program.js";
import type { Gpu } from "./webgpu/device.js";
import { kernel } from "./webgpu/kernels.js";
import type { Weights } from "./weights.js";

/** Speed of the paths on one model and GPU: what `faultline bench engine` prints. */

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
  gpu: Gpu,
  config: ModelConfig,
  weights: Weights,
  options: BenchmarkOptions = {},
): Promise<BenchmarkResult> {
  const measure = (name: string, fusions: Fusions, prefill: boolean) => {
    options.onProgress?.(name);
    return measurePath(gpu, config, weights, name, fusions, prefill, options);
  };
  const readBandwidth = await measureReadBandwidth(gpu, weights);
  const standard = await measure("standard", noFusions, true);
  const fused = await measure("fused", allFusions, true);
  const without: { fusion: keyof Fusions; speed: PathSpeed }[] = [];
  for (const fusion of Object.keys(allFusions) as (keyof Fusions)[]) {
    // Without the rotary kernel there is nothing for the prologue to hold.
    const fusions = { ...allFusions, [fusion]: false, ...(fusion === "rotary" ? { prologue: false } : {}) };
    without.push({ fusion, speed: await measure(`fused without ${fusion}`, fusions, false) });
  }
  const perToken = decodeBytes(config, weights);
  return {
    gpu: gpu.name,
    weightBytes: perToken,
    readBandwidth,
    floorTokensPerSecond: readBandwidth === null ? null : readBandwidth / perToken,
    standard,
    fused,
    without,
  };
}

/** Weights one decode step reads: everything but the embedding rows, of which it reads one. */
function decodeBytes(config: ModelConfig, weights: Weights): number {
  return config.tiedEmbeddings ? weights.byteLength : weights.byteLength - weights.embedding.buffer.size;
}

async function measurePath(
  gpu: Gpu,
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
  const path = new DecoderPath(name, gpu, config, weights, fusions, settings);
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
  const step = await path.decodeProgram(sequenceBatch(promptTokens + Math.floor(newTokens / 2), 1, vocabularySize));
  return {
    dispatchesPerToken: step.dispatches.length,
    decodeTokensPerSecond: median(decodeRuns),
    decodeRuns,
    timeToFirstToken: median(first),
    decodeKernels: await kernelTimes(path.gpu, step),
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
  const prefillKernels = await kernelTimes(path.gpu, await path.decodeProgram(batch));
  return { prefillTokensPerSecond: median(speeds), prefillKernels };
}

async function kernelTimes(
  gpu: Gpu,
  { shape, dispatches }: Awaited<ReturnType<DecoderPath["decodeProgram"]>>,
): Promise<KernelTime[]> {
  if (!gpu.features.has("timestamps")) return [];
  // An idle GPU clocks down while the host compiles: busy it first.
  for (let i = 0; i < 10; i++) await timeDispatches(gpu, dispatches, shape);
  const times = await timeDispatches(gpu, dispatches, shape);
  const byLabel = new Map<string, { label: string; count: number; microseconds: number }>();
  dispatches.forEach(({ label }, i) => {
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

async function measureReadBandwidth(gpu: Gpu, weights: Weights): Promise<number | null> {
  const { buffer } = weights.head;
  const program = await kernel(gpu, "read-bandwidth", { CHUNKS: buffer.size / 16 });
  const dispatch = {
    label: "read",
    kernel: program,
    group: program.bind({ input: buffer, output: gpu.placeholder("storage") }),
    grid: () => [2048, 1, 1] as const,
    reads: [],
    writes: [],
  };
  const shape = { rows: 1, sequences: 1, decode: true, splitCount: 1, tileCount: 0 };
  const runs = Array.from({ length: 8 }, () => dispatch);
  if (!gpu.features.has("timestamps")) return null;
  await timeDispatches(gpu, runs, shape);
  const times = await timeDispatches(gpu, runs, shape);
  return (buffer.size / median(times)) * 1e9;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)]!;
}
