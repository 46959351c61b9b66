import type { Graph } from "../../spec/graph.js";
import type { ModelConfig } from "../../spec/models/config.js";
import { decoderGraph } from "../../spec/models/decoder.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import type { DType } from "../../tensor/dtype.js";
import { expectComplete, valuesRead, valuesShown, valuesWritten } from "../program/dataflow.js";
import { fuse } from "../program/fuse.js";
import type { Fusions } from "../program/fusions.js";
import { standardProgram } from "../program/standard-program.js";
import type { HostStep, Step } from "../program/step.js";
import type { Batch } from "../run/batch.js";
import { decodeStepwise } from "../run/decode-stepwise.js";
import type { DecodeOptions, ForwardOptions, ForwardResult, Path } from "../run/path.js";
import { validateBatch } from "../run/validate-batch.js";
import type { Backend, DeviceBuffer, Launch, LaunchPlan, StepKernels } from "./backend.js";
import { BatchBuffer, type BatchShape } from "./batch-buffer.js";
import { runCaptured } from "./captured-run.js";
import { type CompiledStep, expectUndisturbed, type Tap } from "./compiled-step.js";
import { decodeAhead } from "./decode-ahead.js";
import { runOnHost } from "./host-step.js";
import { type KvLayout, KvStore } from "./kv-store.js";
import { type Place, Places, placeValues } from "./places.js";
import { RotaryTables } from "./rotary-tables.js";
import { Submission } from "./submission.js";
import { TokenChoice, unpackTokens } from "./token-choice.js";
import type { Weights } from "./weights.js";

export interface PathOptions {
  readonly pageCount: number;
  readonly pageSize: number;
  /** @default "NHD" */
  readonly layout?: KvLayout | undefined;
  /** @default "bfloat16" */
  readonly cacheDtype?: DType | undefined;
  /** Rows of the largest batch. @default 512 */
  readonly maxRows?: number | undefined;
  /** @default 64 */
  readonly maxSequences?: number | undefined;
  /** Longest position plus one; the model's own limit unless given. */
  readonly maxPositions?: number | undefined;
  /** What is run instead of the model's own spec. */
  readonly rewritten?: RewrittenSpec | undefined;
}

/** A rewrite of the model's spec; parameters that it changes are those of the path's weights. */
export interface RewrittenSpec {
  readonly graph: Graph;
  /** Values that the spec computes on the host. */
  readonly onHost: ReadonlySet<string>;
  /** What the host reads parameters from. */
  readonly parameters: ParameterReader;
  /** Called when the path is disposed of. */
  release(): void;
}

/** The steps of one kind of batch, and their launches in a list for every way to choose tokens after them. */
interface Compiled {
  readonly steps: readonly CompiledStep[];
  readonly lists: Map<string, readonly Launch[]>;
}

/** A decoder on a device; `fusions` decides how many steps it is. */
export class DecoderPath implements Path {
  readonly pageCount: number;
  readonly pageSize: number;
  readonly maxRows: number;
  readonly maxSequences: number;
  readonly #graph: Graph;
  readonly #standard: readonly Step[];
  readonly #rewritten: RewrittenSpec | undefined;
  readonly #store: KvStore;
  readonly #batch: BatchBuffer;
  readonly #places: ReadonlyMap<string, Place>;
  readonly #values: readonly DeviceBuffer[];
  readonly #angles: RotaryTables;
  readonly #choice: TokenChoice;
  readonly #logits: Place;
  readonly #kernels: StepKernels;
  readonly #compiled = new Map<string, Promise<Compiled>>();

  /** @throws InputError when the back end has no kernel for something the model asks. */
  constructor(
    readonly name: string,
    readonly backend: Backend,
    readonly config: ModelConfig,
    readonly weights: Weights,
    readonly fusions: Fusions,
    options: PathOptions,
  ) {
    this.pageCount = options.pageCount;
    this.pageSize = options.pageSize;
    this.maxRows = options.maxRows ?? 512;
    this.maxSequences = Math.min(options.maxSequences ?? 64, this.maxRows);
    const graph = options.rewritten?.graph ?? decoderGraph(config);
    this.#graph = graph;
    this.#standard = standardProgram(graph, options.rewritten?.onHost);
    this.#rewritten = options.rewritten;
    this.#store = new KvStore(backend, graph, {
      pageCount: options.pageCount,
      pageSize: options.pageSize,
      heads: config.keyValueHeadCount,
      headDim: config.headDim,
      layout: options.layout ?? "NHD",
      dtype: options.cacheDtype ?? "bfloat16",
    });
    const { maxRows, maxSequences } = this;
    this.#batch = new BatchBuffer(backend, maxRows, maxSequences, 2 * options.pageCount + maxSequences);
    const { places, buffers } = placeValues(backend, graph, weights, this);
    this.#places = places;
    this.#values = buffers;
    const positions = Math.min(options.maxPositions ?? config.maxPositions, options.pageCount * options.pageSize);
    this.#angles = new RotaryTables(backend, positions);
    this.#choice = new TokenChoice(backend, maxSequences);
    const sampled = [...graph.nodes.values()].find(({ op }) => op.kind === "argmax")!;
    this.#logits = places.get(sampled.inputs[0]!)!;
    this.#kernels = backend.kernels({
      graph,
      maxRows,
      maxSequences,
      weights,
      batch: this.#batch,
      store: this.#store,
      angles: this.#angles,
      choice: this.#choice,
      logits: this.#logits,
    });
  }

  async forward(batch: Batch, options: ForwardOptions = {}): Promise<ForwardResult> {
    const { backend } = this;
    const lengths = validateBatch(batch, this);
    const { shape, compiled } = await this.#prepare(batch, Math.max(0, ...lengths), options.capture !== undefined);
    const nucleus = this.#choice.write(options.sampling, shape.sequences);
    const choice = { nucleus, advance: false };
    const submission = new Submission(backend);
    let finishCapture: (() => Promise<void>) | undefined;
    if (options.capture) {
      const pages = [...new Set(batch.kvIndices)].sort((a, b) => a - b);
      const target = { backend, sink: options.capture, store: this.#store, pages };
      finishCapture = await runCaptured(submission, compiled.steps, { batch, shape }, target);
      submission.commands.launch(await this.#kernels.choose(choice), shape);
    } else if (compiled.steps.some(({ onHost }) => onHost)) {
      for (const { launches, onHost } of compiled.steps) {
        if (onHost) await submission.pause(() => onHost(batch));
        else submission.commands.launch(launches, shape);
      }
      submission.commands.launch(await this.#kernels.choose(choice), shape);
    } else submission.commands.launch(await this.#launches(compiled, choice), shape);
    submission.submit();
    await finishCapture?.();
    const history = new Uint32Array(await backend.read(this.#choice.history, 0, shape.sequences * 8));
    const chosen = unpackTokens(history, shape.sequences);
    if (!options.logits) return chosen;
    const bytes = shape.sequences * this.config.vocabularySize * 4;
    return { ...chosen, logits: new Float32Array(await backend.read(this.#logits.buffer, 0, bytes)) };
  }

  async decode(batch: Batch, options: DecodeOptions): Promise<Int32Array[]> {
    const lengths = validateBatch(batch, this, options);
    // What the host computes it computes from tokens that it has read.
    if (this.#standard.some(({ kind }) => kind === "host")) return decodeStepwise(this, batch, options);
    const longest = Math.max(...lengths) + options.steps - 1;
    const { shape, compiled } = await this.#prepare(batch, longest, false, options.reserve);
    const nucleus = this.#choice.write(options.sampling, shape.sequences);
    const launches = await this.#launches(compiled, { nucleus, advance: true });
    return decodeAhead(this.backend, this.#choice, launches, shape, options);
  }

  /** The launches of one greedy step of `batch`, for measurements. */
  async launches(batch: Batch): Promise<{ shape: BatchShape; launches: readonly Launch[] }> {
    const lengths = validateBatch(batch, this);
    const { shape, compiled } = await this.#prepare(batch, Math.max(0, ...lengths), false);
    this.#choice.write(undefined, shape.sequences);
    return { shape, launches: await this.#launches(compiled, { nucleus: false, advance: false }) };
  }

  poisonPages(pages: readonly number[], word: number): void {
    this.#store.fill(pages, word);
  }

  dispose(): void {
    this.#kernels.destroy();
    this.#store.destroy();
    this.#batch.destroy();
    for (const buffer of this.#values) buffer.destroy();
    this.#choice.destroy();
    this.#angles.destroy();
    this.#rewritten?.release();
  }

  async #prepare(batch: Batch, longest: number, captured: boolean, reserve?: DecodeOptions["reserve"]) {
    const plan = this.#kernels.plan(batch, longest, this.fusions);
    const shape = this.#batch.upload(batch, plan.splits, reserve);
    const key = `${plan.key} ${captured}`;
    let compiled = this.#compiled.get(key);
    if (!compiled) {
      compiled = this.#compile(plan, captured);
      this.#compiled.set(key, compiled);
    }
    return { shape, compiled: await compiled };
  }

  async #launches({ steps, lists }: Compiled, choice: { nucleus: boolean; advance: boolean }) {
    const key = JSON.stringify(choice);
    let list = lists.get(key);
    if (!list) {
      list = [...steps.flatMap(({ launches }) => launches), ...(await this.#kernels.choose(choice))];
      lists.set(key, list);
    }
    return list;
  }

  async #compile(plan: LaunchPlan, captured: boolean): Promise<Compiled> {
    const graph = this.#graph;
    const { weights } = this;
    const steps = fuse(this.#standard, plan.fusions, {
      graph,
      slotOf: (parameters) => weights.slotOf(parameters),
      takesNorm: (step) => plan.takesNorm(step),
    });
    expectComplete(graph, steps);
    const places = new Places(this.#places);
    const compiled: CompiledStep[] = [];
    const shown = captured || steps.some(({ kind }) => kind === "host"); // The host reads what captures read.
    for (const step of steps) {
      const reads = valuesRead(graph, step).map((name) => this.#tap(name, places));
      const launches = step.kind === "host" ? [] : await this.#kernels.compile(step, plan, places, shown);
      const left = new Set([...valuesWritten(graph, step), ...valuesShown(step)]);
      const writes = [...left].map((name) => this.#tap(name, places));
      const onHost = step.kind === "host" ? this.#onHost(step, reads, places.of(step.output)) : undefined;
      compiled.push({ label: step.label, launches, reads, writes, ...(onHost && { onHost }) });
    }
    expectUndisturbed(compiled);
    return { steps: compiled, lists: new Map() };
  }

  #onHost(step: HostStep, reads: readonly Tap[], output: Place): (batch: Batch) => Promise<void> {
    const { backend } = this;
    const memory = { backend, graph: this.#graph, parameters: this.#rewritten!.parameters, store: this.#store };
    return (batch) => runOnHost(step, batch, reads, output, memory);
  }

  #tap(name: string, places: Places): Tap {
    const pages = this.#store.find(name);
    if (pages) return { name, buffer: pages, place: undefined };
    const place = places.of(name);
    return { name, buffer: place.buffer, place };
  }
}
