import { CaptureWriter, contiguousStrides } from "../capture/writer.js";
import { Evaluator } from "../spec/evaluator.js";
import type { Graph, GraphNode } from "../spec/graph.js";
import type { Precision } from "../spec/noise.js";
import { indices } from "../spec/op.js";
import { type PlacedStep, RowTable, type Step } from "../spec/rows.js";
import type { What } from "../spec/site.js";
import { type ChangedParameter, overlayParameters } from "../tensor/changed-parameters.js";
import type { ParameterReader } from "../tensor/checkpoint.js";
import { type DType, encode } from "../tensor/dtype.js";
import { heldAs } from "../tensor/held-parameters.js";
import { type TensorBytes, writeSafetensors } from "../tensor/safetensors.js";
import { underCacheType } from "./cache-type.js";
import type { Fault, FaultContext, FaultValues, Injection } from "./fault.js";
import { type Implementation, plainImplementation } from "./legal.js";
import type { LabModel } from "./model.js";
import { type BatchPadding, type PaddedBatch, padBatch, underPadding } from "./padded-batch.js";
import { type CacheLayout, PagedCache, type PageMetadata } from "./paged-cache.js";
import { overRanks, recordRanks } from "./ranks.js";

/** A fault with its settings and the layers it is put into; layers of a fault of the model are ignored. */
export interface InjectedFault {
  readonly fault: Fault;
  readonly layers: readonly number[];
  readonly values: FaultValues;
}

export interface RunOptions {
  readonly model: LabModel;
  readonly steps: readonly Step[];
  readonly store: DType;
  readonly faults?: readonly InjectedFault[];
  /** Draws how the (possibly faulty) graph is computed; plain float32 arithmetic with stored values otherwise. */
  readonly implement?: (graph: Graph, parameters: ParameterReader) => Implementation;
  /** A changed graph that is not a fault: decoys. */
  readonly injections?: readonly Injection[];
  /** Layers to record; all unless given. */
  readonly layers?: readonly number[];
  /** Record the residual stream alone: what layers, embedding, last norm and head return. */
  readonly streamOnly?: boolean;
  /** Logits of the last token of each sequence alone, as runtimes that select rows first have them. */
  readonly lastTokens?: boolean;
  /** Records the KV cache in pages too, as a capture directory. */
  readonly cache?: CacheLayout;
  /** Makes the sequences of a plain recording's step equally long. */
  readonly padding?: BatchPadding;
  /** Tensor-parallel ranks, all recorded into one directory; 1 unless given. */
  readonly ranks?: number;
  /** A `.safetensors` file for one step of equally long sequences, else a capture directory. */
  readonly path: string;
}

export interface LabRun {
  readonly path: string;
  /** What it was made by. */
  readonly options: RunOptions;
  /** What the run should have computed. */
  readonly spec: Graph;
  readonly recorded: ReadonlySet<string>;
  /** Recorded values that must not be explained by the spec: the first bad ones as far as they can be seen. */
  readonly bad: ReadonlySet<string>;
  readonly precision: Precision;
  readonly implementation: Implementation;
  /** Sampled token per sequence of the last step. */
  readonly sampled: readonly number[];
}

/** Values that no Hugging Face module returns; so is the stream in the middle of a layer. */
const inside = new Set<What>(["activated", "gated", "key-cache", "value-cache", "hidden", "gathered", "sample"]);

/** The residual stream and what is made of it in the end. */
const stream = new Set<What>(["embedding", "stream", "last-norm", "logits"]);

/** Runs the decoder forward once, with faults, and writes what a recorder of module outputs would have seen. */
export function runLab(options: RunOptions): LabRun {
  const { model, store } = options;
  const padded = options.padding && padBatch(options.steps[0]!, options.padding);
  const steps = padded ? [padded.step] : options.steps;
  const injections = [...(options.injections ?? [])];
  const firstBad: string[] = [];
  const spec = (options.ranks ?? 1) > 1 ? overRanks(model.graph, model.config, options.ranks!) : model.graph;
  let graph = padded ? underPadding(spec, padded) : spec;
  if (options.cache) graph = underCacheType(graph, options.cache);
  const held = heldAs(model.parameters, store);
  const parameters = new Map<string, ChangedParameter>();
  const apply = (injection: Injection) => {
    graph = graph.with(injection.nodes ?? []);
    for (const [name, parameter] of injection.parameters ?? []) parameters.set(name, parameter);
  };
  for (const injection of injections) apply(injection);
  for (const { fault, layers, values } of options.faults ?? []) {
    for (const layer of fault.scope === "model" ? [-1] : layers) {
      const reader = overlayParameters(held, parameters);
      const context: FaultContext = { graph, config: model.config, parameters: reader, store, values };
      const injection = fault.inject(context, layer);
      firstBad.push(...fault.firstBad(context, layer));
      injections.push(injection);
      apply(injection);
    }
  }
  const implementation =
    options.implement?.(graph, overlayParameters(held, parameters)) ?? plainImplementation(graph, store);
  for (const [name, parameter] of implementation.parameters) parameters.set(name, parameter);
  const rows = new RowTable();
  const placed = steps.map((step) => rows.append(step));
  const evaluator = new Evaluator({
    graph: implementation.graph,
    parameters: overlayParameters(held, parameters),
    rows,
    precision: implementation.precision,
    arithmetic: implementation.arithmetic,
    recipe: implementation.recipe,
  });
  const hidden = new Set([...injections.flatMap(({ unrecorded }) => unrecorded ?? []), ...implementation.unrecorded]);
  const recorded = new Set<string>();
  for (const node of spec.nodes.values()) {
    const inLayer = node.layer === undefined || !options.layers || options.layers.includes(node.layer);
    const { what, block } = node.site;
    const within = inside.has(what) || (what === "stream" && block === "attention");
    if (!inLayer || within || hidden.has(node.name)) continue;
    if (!options.streamOnly || stream.has(what)) recorded.add(node.name);
  }
  const recorder = new Recorder(options, spec, evaluator, recorded, injections);
  if (options.path.endsWith(".safetensors")) recorder.plain(placed[0]!, padded);
  else recorder.capture(steps, placed);
  const wrongRecords = injections.flatMap(({ overwritten, claimed }) => [
    ...(overwritten?.keys() ?? []),
    ...(claimed?.keys() ?? []),
  ]);
  const readers = wrongRecords.flatMap((name) => spec.consumers(name));
  return {
    path: options.path,
    options,
    spec,
    recorded,
    bad: seenAt(spec, [...firstBad, ...readers], recorded),
    precision: implementation.precision,
    implementation,
    sampled: recorder.sampled(placed.at(-1)!),
  };
}

/** The same run without faults, computed plainly: what a run is compared with by those who have no checker. */
export function runReference({ options }: LabRun): LabRun {
  const { implement: _, injections: __, faults: ___, ...same } = options;
  const extension = options.path.endsWith(".safetensors") ? ".safetensors" : "";
  const stem = options.path.slice(0, options.path.length - extension.length);
  return runLab({ ...same, path: `${stem}-reference${extension}` });
}

/** The recorded values at which `names` first show: themselves, or their nearest recorded consumers. */
export function seenAt(graph: Graph, names: readonly string[], recorded: ReadonlySet<string>): Set<string> {
  const seen = new Set<string>();
  const visited = new Set<string>();
  const pending = [...names];
  while (pending.length > 0) {
    const name = pending.pop()!;
    if (visited.has(name)) continue;
    visited.add(name);
    // What is no value of the graph is metadata, and shows itself.
    if (recorded.has(name) || !graph.find(name)) seen.add(name);
    else pending.push(...graph.consumers(name));
  }
  return seen;
}

class Recorder {
  readonly #claimed = new Map<string, DType>();
  readonly #overwritten = new Map<string, string>();

  constructor(
    readonly options: RunOptions,
    readonly spec: Graph,
    readonly evaluator: Evaluator,
    readonly recorded: ReadonlySet<string>,
    readonly injections: readonly Injection[],
  ) {
    for (const { claimed, overwritten } of injections) {
      for (const [name, dtype] of claimed ?? []) this.#claimed.set(name, dtype);
      for (const [name, other] of overwritten ?? []) this.#overwritten.set(name, other);
    }
  }

  /** One step as Hugging Face modules return it: [batch, tokens, …]. */
  plain(step: PlacedStep, padded?: PaddedBatch): void {
    const batch = step.seqIds.length;
    const tokens = step.rowCount / batch;
    if (!step.qoIndptr.every((n, b) => n === b * tokens)) {
      throw new Error("a plain recording needs sequences of equal length");
    }
    const ids = Array.from({ length: step.rowCount }, (_, i) => this.evaluator.rows.token[step.firstRow + i]!);
    const tensors: TensorBytes[] = [
      { name: "input_ids", dtype: "int32", shape: [batch, tokens], bytes: encode(ids, "int32") },
      ...(padded?.tensors ?? []),
    ];
    for (const name of [...this.recorded].sort()) {
      const { columns, heads } = this.evaluator.graph.node(name);
      const rows = this.#rows(name, step);
      const perSequence = rows.length / batch;
      let values = this.#values(name, rows);
      let shape = [batch, perSequence, columns];
      const { what } = this.options.model.graph.node(name).site;
      if (heads && (what === "query-rotated" || what === "key-rotated")) {
        const headDim = columns / heads;
        values = headsFirst(values, perSequence, heads, headDim);
        shape = [batch, heads, perSequence, headDim];
      } else if (heads && (what === "query-norm" || what === "key-norm"))
        shape = [batch, perSequence, heads, columns / heads];
      const dtype = this.#claimed.get(name) ?? this.options.store;
      tensors.push({ name, dtype, shape, bytes: encode(values, this.options.store) });
    }
    writeSafetensors(this.options.path, tensors);
  }

  /** Every step as a capture of dense values, rows by columns. */
  capture(steps: readonly Step[], placed: readonly PlacedStep[]): void {
    const { model, store, ranks = 1 } = this.options;
    const writer = new CaptureWriter(this.options.path, {
      model: model.json,
      runtime: { name: "faultline lab", dtype: store },
      ...(ranks > 1 && { world: ranks }),
    });
    const cache = this.options.cache && new PagedCache(this.options.cache, this.evaluator.rows);
    steps.forEach((step, index) => {
      const where = placed[index]!;
      const rows = this.evaluator.rows.rowsOf(index);
      writer.step({
        event: "step",
        step: step.step,
        seq_ids: [...step.seqIds],
        token_ids: Array.from(step.tokenIds),
        qo_indptr: Array.from(step.qoIndptr),
        positions: Array.from(rows, (row) => this.evaluator.rows.position[row]!),
        ...(cache && this.#pages(cache.place(where), where)),
      });
      for (const name of ranks > 1 ? [] : this.recorded) {
        const chosen = this.#rows(name, where);
        const shape = [chosen.length, this.evaluator.graph.node(name).columns];
        const dtype = this.#claimed.get(name) ?? store;
        const view = { storage: name, epoch: index, dtype, shape, strides: contiguousStrides(shape), offset: 0 };
        writer.dense(name, "output", view, encode(this.#values(name, chosen), store), undefined, store);
      }
      if (ranks > 1) this.#ranked(writer, where);
      cache?.record(writer, this.#caches(), where, index, (name) => this.#values(name, rows));
      writer.sample({ event: "sample", step: step.step, token_ids: this.sampled(where) });
    });
    writer.finishStep();
  }

  /** What each rank holds of a step's values. */
  #ranked(writer: CaptureWriter, where: PlacedStep): void {
    for (const name of this.recorded) {
      const rows = this.#rows(name, where);
      recordRanks(writer, this.options, this.spec.node(name), {
        graph: this.spec,
        rows: rows.length,
        values: this.#values(name, rows),
        keyPartOf: this.injections.find(({ keyPartOf }) => keyPartOf)?.keyPartOf,
      });
    }
  }

  /** A step's page metadata as the run's host has it. */
  #pages(metadata: PageMetadata, step: PlacedStep): PageMetadata {
    return this.injections.reduce((so, { pages }) => pages?.(so, step) ?? so, metadata);
  }

  /** Sampled token per sequence. */
  sampled(step: PlacedStep): number[] {
    return Array.from(this.evaluator.read("sample", this.#lastRows(step), "").value);
  }

  #values(name: string, rows: Int32Array): Float64Array {
    const { columns } = this.evaluator.graph.node(name);
    return this.evaluator.read(this.#overwritten.get(name) ?? name, rows, "", indices(columns)).value;
  }

  /** KV caches of the layers that are recorded. */
  #caches(): GraphNode[] {
    const { model, layers } = this.options;
    return [...model.graph.nodes.values()].filter(
      ({ op, layer }) => op.kind === "append" && (!layers || layers.includes(layer!)),
    );
  }

  #rows(name: string, step: PlacedStep): Int32Array {
    if (this.options.lastTokens && this.spec.node(name).site.what === "logits") return this.#lastRows(step);
    return Int32Array.from({ length: step.rowCount }, (_, i) => step.firstRow + i);
  }

  #lastRows(step: PlacedStep): Int32Array {
    return Int32Array.from(step.seqIds, (_, b) => step.firstRow + step.qoIndptr[b + 1]! - 1);
  }
}

/** [batch, tokens, heads, head_dim] to [batch, heads, tokens, head_dim]. */
function headsFirst(values: Float64Array, tokens: number, heads: number, headDim: number): Float64Array {
  const out = new Float64Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const channel = i % headDim;
    const head = Math.floor(i / headDim) % heads;
    const token = Math.floor(i / (headDim * heads)) % tokens;
    const batch = Math.floor(i / (headDim * heads * tokens));
    out[((batch * heads + head) * tokens + token) * headDim + channel] = values[i]!;
  }
  return out;
}
