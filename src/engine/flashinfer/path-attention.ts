import type { GraphNode } from "../../spec/graph.js";
import type { PathAttention } from "../cuda/attention-library.js";
import type { Cuda } from "../cuda/cuda.js";
import type { CudaLaunch } from "../cuda/launch.js";
import type { CudaBuffer } from "../cuda/memory.js";
import type { StepContext } from "../cuda/step-context.js";
import { convert } from "../cuda/widened-inputs.js";
import type { BatchShape } from "../device/batch-buffer.js";
import type { PathMemory } from "../device/path-memory.js";
import { dtypeOf, type Place, type Places } from "../device/places.js";
import { widestAttention } from "../device/widths.js";
import { readersOf } from "../program/dataflow.js";
import type { AttendStep } from "../program/step.js";
import { attributesOf } from "../program/typed-node.js";
import { BatchDecode } from "./batch-decode.js";
import { cacheOperands } from "./cache-operands.js";
import type { FlashInfer } from "./flashinfer.js";
import { decodeKind } from "./geometry.js";
import type { Operand } from "./operands.js";
import { DevicePageTable, qoIndptr } from "./page-table.js";
import { BatchPlan, type Planner } from "./planner.js";

/**
 * FlashInfer in one path: queries and outputs in bfloat16, shared by all layers; a plan per batch of new page counts, and a
 * page table that the device makes itself before the first attention of a step.
 */
export class FlashInferPath implements PathAttention {
  readonly #queries: CudaBuffer;
  readonly #outputs: CudaBuffer;
  readonly #table: DevicePageTable;
  readonly #plans = new Map<Planner, BatchPlan>();
  /** Programs that have an attention already. */
  readonly #begun = new WeakSet<Places>();

  constructor(
    readonly flashinfer: FlashInfer,
    readonly cuda: Cuda,
    readonly memory: PathMemory,
  ) {
    const { columns } = widestAttention(memory.graph);
    this.#queries = cuda.buffer("flashinfer q", memory.maxRows * columns * 2);
    this.#outputs = cuda.buffer("flashinfer output", memory.maxRows * columns * 2);
    this.#table = new DevicePageTable(cuda, memory.batch);
    // What is missing shows before anything runs.
    for (const node of memory.graph.nodes.values()) {
      if (node.op.kind !== "attention") continue;
      for (const decode of [true, false]) this.#planner(shapeOf(node), decode);
    }
  }

  queryPlace(name: string): Place | undefined {
    const { graph } = this.memory;
    const readers = readersOf(graph, name).map((reader) => graph.node(reader));
    const asked =
      readers.length > 0 && readers.every(({ op, inputs }) => op.kind === "attention" && inputs[0] === name);
    if (!asked) return undefined;
    const { heads = 1, columns } = graph.node(name);
    return place(this.#queries, [heads, columns / heads]);
  }

  attend(step: AttendStep, context: StepContext): CudaLaunch[] {
    const { places, modules, plan } = context;
    const { label, heads, headDim } = step;
    const launches: CudaLaunch[] = [];
    const isFirst = !this.#begun.has(places);
    this.#begun.add(places);
    if (isFirst) launches.push(this.#table.launch);
    const query = places.of(step.query);
    const narrow = place(this.#queries, [heads, headDim]);
    if (dtypeOf(query) !== "bfloat16") launches.push(convert(modules, "narrow", query, narrow));
    const planner = this.#planner(step, plan.decode);
    launches.push({ label, plan: this.#planOf(planner), call: this.#run(step, planner, isFirst) });
    places.move(step.output, place(this.#outputs, [heads * headDim]));
    return launches;
  }

  destroy(): void {
    this.#table.destroy();
    for (const buffer of [this.#queries, this.#outputs]) buffer.destroy();
  }

  #planner({ heads, kvHeads, headDim, windowLeft, softCap, causal }: AttentionShape, decode: boolean): Planner {
    const { pageSize } = this.memory.store.options;
    const geometry = { heads, kvHeads, headDim, pageSize, windowLeft, softCap };
    // Batches of one row per sequence come again and again: their plans serve graphs.
    return this.flashinfer.planner({
      kind: decode ? decodeKind(geometry) : "prefill",
      geometry,
      causal,
      graph: decode,
    });
  }

  #planOf(planner: Planner): BatchPlan {
    const plan = this.#plans.get(planner) ?? new BatchPlan(planner, this.memory.batch);
    this.#plans.set(planner, plan);
    return plan;
  }

  #run(step: AttendStep, planner: Planner, isFirst: boolean): (shape: BatchShape) => void {
    const { memory, cuda } = this;
    const { heads, kvHeads, headDim, scale, causal } = step;
    const { pageSize } = memory.store.options;
    const pages = cacheOperands(memory.store.view(step.keys, step.values), { pageSize, kvHeads, headDim });
    // The decode kernel looks at the page table before it waits for the kernel before it, so that the first attention,
    // right behind the kernel that makes the table, may not start early; those after it find a table that is done.
    const overlaps = cuda.stream.overlaps && planner.module instanceof BatchDecode && !isFirst;
    return ({ rows, sequences }) => {
      const shape = [rows, heads, headDim];
      const operands = {
        query: { buffer: this.#queries, dtype: "bfloat16", shape } satisfies Operand,
        output: { buffer: this.#outputs, dtype: "bfloat16", shape } satisfies Operand,
        scale,
        overlaps,
        causal,
        qoIndptr: qoIndptr(memory.batch, sequences),
      };
      const paged = { ...pages, ...this.#table.operands(sequences) };
      const { module, plan } = planner;
      if (module instanceof BatchDecode) module.run(plan, operands, paged);
      else module.pagedRun(plan, operands, paged);
    };
  }
}

type AttentionShape = Pick<AttendStep, "heads" | "kvHeads" | "headDim" | "windowLeft" | "softCap" | "causal">;

/** What the step of an attention of the spec will say of it. */
function shapeOf(node: GraphNode): AttentionShape {
  const { heads, keyValueHeads: kvHeads, headDim, softCap = 0, windowLeft = -1 } = attributesOf(node, "attention");
  return { heads, kvHeads, headDim, softCap, windowLeft, causal: true };
}

function place(buffer: CudaBuffer, shape: readonly number[]): Place {
  const rowStride = shape.reduce((product, n) => product * n, 1);
  return { buffer, dtype: "bfloat16", shape, rowStride, offset: 0, per: "row" };
}
