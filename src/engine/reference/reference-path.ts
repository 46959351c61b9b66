import type { Arithmetic } from "../../spec/arithmetic.js";
import { Evaluator, type Observations } from "../../spec/evaluator.js";
import type { Graph, GraphNode } from "../../spec/graph.js";
import type { ModelConfig } from "../../spec/models/config.js";
import { declaredParameters, decoderGraph } from "../../spec/models/decoder.js";
import { UnitRecipe } from "../../spec/recipe.js";
import type { RowTable } from "../../spec/rows.js";
import type { What } from "../../spec/site.js";
import { type ChangedParameter, overlayParameters } from "../../tensor/changed-parameters.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import { type DType, encode } from "../../tensor/dtype.js";
import { type Batch, expectConsistent, lastRows, slotOf } from "../run/batch.js";
import type { CaptureSink } from "../run/captured-value.js";
import { decodeStepwise } from "../run/decode-stepwise.js";
import type { DecodeOptions, ForwardOptions, ForwardResult, Path } from "../run/path.js";
import { placeRows } from "../run/placed-rows.js";
import { greedy } from "../run/sampling.js";
import { validateBatch } from "../run/validate-batch.js";
import { chooseToken } from "./choose-token.js";
import { HostPages } from "./host-pages.js";

export interface ReferenceOptions {
  readonly config: ModelConfig;
  readonly parameters: ParameterReader;
  readonly pageCount: number;
  readonly pageSize: number;
  /** Type of the values stored between ops; inside an op everything is float64. @default "float32" */
  readonly dtype?: DType | undefined;
  /** What is run instead of the model's own spec: a rewrite of it. */
  readonly graph?: Graph | undefined;
  /** Parameters that are held otherwise than in the checkpoint, or that it does not have. */
  readonly changed?: ReadonlyMap<string, ChangedParameter> | undefined;
  /** Sums in float32 and another order than the exact one's: they overflow where a device's kernels do. */
  readonly arithmetic?: Arithmetic | undefined;
}

/** Values computed for each sequence's last row alone. */
const lastRowOnly = new Set<What>(["gathered", "logits", "final-logits", "sample"]);

/** The spec run forward on the CPU, with a real paged KV cache: a batch means here what it means to the GPU paths. */
export class ReferencePath implements Path {
  readonly name = "reference";
  readonly config: ModelConfig;
  readonly pageCount: number;
  readonly pageSize: number;
  readonly maxRows = 1024;
  readonly maxSequences = 256;
  readonly dtype: DType;
  readonly graph: Graph;
  readonly #parameters: ParameterReader;
  readonly #arithmetic: Arithmetic | undefined;
  readonly #caches = new Map<string, HostPages>();
  #epoch = 0;

  constructor(options: ReferenceOptions) {
    this.config = options.config;
    this.pageCount = options.pageCount;
    this.pageSize = options.pageSize;
    const dtype = options.dtype ?? "float32";
    this.dtype = dtype;
    this.graph = options.graph ?? decoderGraph(options.config);
    const declared = declaredParameters(options.config, options.parameters);
    this.#parameters = options.changed ? overlayParameters(declared, options.changed) : declared;
    this.#arithmetic = options.arithmetic;
    const { keyValueHeadCount: heads, headDim } = options.config;
    for (const node of this.graph.nodes.values()) {
      if (node.op.kind === "append") {
        const shape = { pageCount: this.pageCount, pageSize: this.pageSize, heads, headDim };
        this.#caches.set(node.name, new HostPages(node.name, dtype, shape));
      }
    }
  }

  /** @throws RangeError when the batch's arrays contradict each other or the path. */
  async forward(batch: Batch, options: ForwardOptions = {}): Promise<ForwardResult> {
    validateBatch(batch, this);
    expectConsistent(batch);
    const rows = placeRows(batch);
    const first = rows.steps[0]!.firstRow;
    const all = rows.rowsOf(0);
    const last = lastRows(batch).map((row) => first + row);
    const written = new Set<string>();
    const evaluator = new Evaluator({
      graph: this.graph,
      parameters: this.#parameters,
      rows,
      precision: { store: this.dtype, compute: this.#arithmetic ? "float32" : "float64" },
      recipe: new UnitRecipe(this.dtype),
      ...(this.#arithmetic && { arithmetic: this.#arithmetic }),
      observations: this.#cacheReads(batch, rows, written),
    });
    const epoch = this.#epoch++;
    for (const node of this.graph.nodes.values()) {
      const cache = this.#caches.get(node.name);
      const wanted = options.capture?.wants(node.name) && node.site.what !== "sample";
      if (!cache && !wanted) continue;
      const { value } = evaluator.read(node.name, lastRowOnly.has(node.site.what) ? last : all, node.name);
      if (!cache) {
        this.#recordDense(options.capture!, node, value, epoch);
        continue;
      }
      cache.write(batch.slotMapping, value);
      written.add(node.name);
      if (wanted) recordPages(options.capture!, cache, batch, epoch);
      // What lies behind the layer before this one is not read again.
      evaluator.forget((name) => (this.graph.node(name).layer ?? -1) >= node.layer! - 1);
    }
    return this.#choose(batch, evaluator.read(this.graph.node("sample").inputs[0]!, last, "sample").value, options);
  }

  async decode(batch: Batch, options: DecodeOptions): Promise<Int32Array[]> {
    validateBatch(batch, this, options);
    return decodeStepwise(this, batch, options);
  }

  poisonPages(pages: readonly number[], word: number): void {
    for (const cache of this.#caches.values()) cache.fill(pages, word);
  }

  dispose(): void {
    this.#caches.clear();
  }

  /** Keys and values come from the pages that the batch's table names, once they have been appended. */
  #cacheReads(batch: Batch, rows: RowTable, written: ReadonlySet<string>): Observations {
    const firstRow = rows.steps[0]!.firstRow;
    const sequenceOf = new Map(batch.seqIds.map((seqId, b) => [seqId, b]));
    return {
      has: (name) => this.#caches.has(name),
      row: (name, row) => {
        if (row >= firstRow && !written.has(name)) return undefined;
        const slot = slotOf(batch, sequenceOf.get(rows.seqId[row]!)!, rows.position[row]!);
        return { value: this.#caches.get(name)!.read(slot), dtype: this.dtype, exact: true };
      },
    };
  }

  #choose(batch: Batch, logits: Float64Array, options: ForwardOptions): ForwardResult {
    const sequences = batch.seqIds.length;
    const size = this.config.vocabularySize;
    const tokenIds = new Int32Array(sequences);
    const finite = new Array<boolean>(sequences);
    for (let b = 0; b < sequences; b++) {
      const position = batch.positions[batch.qoIndptr[b + 1]! - 1]!;
      const row = logits.subarray(b * size, (b + 1) * size);
      const chosen = chooseToken(row, options.sampling?.[b] ?? greedy, position);
      tokenIds[b] = chosen.token;
      finite[b] = chosen.finite;
    }
    return options.logits ? { tokenIds, finite, logits: Float32Array.from(logits) } : { tokenIds, finite };
  }

  #recordDense(sink: CaptureSink, node: GraphNode, value: Float64Array, epoch: number): void {
    const shape = [value.length / node.columns, node.columns];
    const layout = { shape, strides: [node.columns, 1], offset: 0 };
    const dtype = node.site.what === "chosen" ? "int32" : (node.op.dtype ?? this.dtype);
    const bytes = encode(value, dtype);
    const view = { kind: "dense" as const, storage: node.name, epoch, dtype, ...layout, bytes };
    sink.value({ name: node.name, role: "output", by: node.op.kind, view });
  }
}

/** The pages the batch wrote, as written, and all pages of its table, as attention reads them. */
function recordPages(sink: CaptureSink, cache: HostPages, batch: Batch, epoch: number): void {
  const touched = new Set(Array.from(batch.slotMapping, (slot) => Math.floor(slot / batch.pageSize)));
  const { name } = cache;
  sink.value({ name, role: "output", by: "append", view: cache.view([...touched], epoch) });
  sink.value({ name, role: "input", by: "attention", view: cache.view([...new Set(batch.kvIndices)], epoch) });
}
