import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DenseView, PagedView, StepEvent } from "../../src/capture/format.js";
import { CaptureWriter, contiguousStrides } from "../../src/capture/writer.js";
import { randomGenerator } from "../../src/diagnose/bits/sample.js";
import { RoundedArithmetic } from "../../src/spec/arithmetic.js";
import { Evaluator } from "../../src/spec/evaluator.js";
import type { Graph } from "../../src/spec/graph.js";
import { type ModelConfig, parseModelConfig } from "../../src/spec/models/config.js";
import { decoderGraph, expectedParameters } from "../../src/spec/models/decoder.js";
import { UnitRecipe } from "../../src/spec/recipe.js";
import { RowTable } from "../../src/spec/rows.js";
import { Checkpoint } from "../../src/tensor/checkpoint.js";
import { encode } from "../../src/tensor/dtype.js";
import { writeSafetensors } from "../../src/tensor/safetensors.js";

/** A Qwen3 of a few thousand parameters: small enough to be run, recorded and broken thousands of times. */
export const tinyConfig = {
  model_type: "qwen3",
  hidden_size: 16,
  intermediate_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 8,
  vocab_size: 32,
  max_position_embeddings: 256,
  rms_norm_eps: 1e-6,
  hidden_act: "silu",
  tie_word_embeddings: true,
  rope_theta: 10000,
  dtype: "bfloat16",
};

export interface TinyModel {
  readonly directory: string;
  readonly config: ModelConfig;
  readonly graph: Graph;
  readonly checkpoint: Checkpoint;
}

/** Writes a model folder with random bfloat16 weights and opens it. */
export function writeTinyModel(directory: string, json: Record<string, unknown> = tinyConfig): TinyModel {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, "config.json"), JSON.stringify(json));
  const config = parseModelConfig(json, "config.json");
  const random = randomGenerator(7);
  const tensors = [...expectedParameters(config)].map(([name, shape]) => {
    const size = shape.reduce((product, n) => product * n, 1);
    const spread = shape.length === 1 ? 0.2 : 1.5 / Math.sqrt(shape[1]!);
    const centre = shape.length === 1 && !name.endsWith("bias") ? 1 : 0;
    const values = Float64Array.from({ length: size }, () => centre + spread * (2 * random() - 1));
    return { name, dtype: "bfloat16" as const, shape, bytes: encode(values, "bfloat16") };
  });
  writeSafetensors(join(directory, "model.safetensors"), tensors);
  return { directory, config, graph: decoderGraph(config), checkpoint: new Checkpoint(directory) };
}

/** A correct bfloat16 run over the rows of a table. */
export function tinyEvaluator(model: TinyModel, rows: RowTable): Evaluator {
  const arithmetic = new RoundedArithmetic({ block: 16, reversed: false });
  return new Evaluator({
    graph: model.graph,
    parameters: model.checkpoint,
    rows,
    precision: { store: "bfloat16", compute: "float32" },
    arithmetic,
    recipe: new UnitRecipe("bfloat16"),
  });
}

/** A plain recording of module outputs: `sequences` × `tokens`, with the shapes Hugging Face's hooks see. */
export function writePlainCapture(path: string, model: TinyModel, sequences = 2, tokens = 6): void {
  const ids = Array.from({ length: sequences * tokens }, (_, i) => (7 * i + 3) % model.config.vocabularySize);
  const rows = new RowTable();
  const qoIndptr = Array.from({ length: sequences + 1 }, (_, b) => b * tokens);
  rows.append({ step: 0, seqIds: qoIndptr.slice(1), tokenIds: ids, qoIndptr });
  const run = tinyEvaluator(model, rows);
  const tensors = [
    { name: "input_ids", dtype: "int64" as const, shape: [sequences, tokens], bytes: encode(ids, "int64") },
  ];
  const all = rows.rowsOf(0);
  const record = [];
  for (const node of model.graph.nodes.values()) {
    if (/_cache$|^sample$|^lm_head\.input$|layernorm\.input$/.test(node.name)) continue;
    const { value } = run.read(node.name, all, "");
    const dim = node.heads ? node.columns / node.heads : 0;
    const headed = node.heads !== undefined && /norm$|rope$/.test(node.name);
    const transposed = /rope$/.test(node.name);
    const shape = !headed
      ? [sequences, tokens, node.columns]
      : transposed
        ? [sequences, node.heads!, tokens, dim]
        : [sequences, tokens, node.heads!, dim];
    const stored = transposed ? headsFirst(value, sequences, tokens, node.heads!, dim) : value;
    record.push({ name: node.name, dtype: "bfloat16" as const, shape, bytes: encode(stored, "bfloat16") });
  }
  writeSafetensors(path, [...tensors, ...record]);
}

/** [b, t, h, d] to [b, h, t, d]. */
function headsFirst(value: Float64Array, b: number, t: number, h: number, d: number): Float64Array {
  const out = new Float64Array(value.length);
  for (let i = 0; i < value.length; i++) {
    const channel = i % d;
    const head = Math.floor(i / d) % h;
    const token = Math.floor(i / (d * h)) % t;
    const sequence = Math.floor(i / (d * h * t));
    out[((sequence * h + head) * t + token) * d + channel] = value[i]!;
  }
  return out.subarray(0, b * t * h * d);
}

const pageSize = 4;

interface TinyStep {
  readonly seqIds: number[];
  readonly counts: number[];
}

const tinySteps: TinyStep[] = [
  { seqIds: [7, 9], counts: [5, 3] },
  { seqIds: [7, 9], counts: [1, 4] },
  { seqIds: [9, 7], counts: [1, 1] },
];
/** Physical pages each sequence takes, in order. */
const pagesOf: Record<number, number[]> = { 7: [5, 2], 9: [0, 3] };

/** A recording in format 1 of up to three steps over two sequences with a paged KV cache, NHD or HND. */
export function writePagedCapture(
  directory: string,
  model: TinyModel,
  layout: "NHD" | "HND" = "NHD",
  stepCount = tinySteps.length,
): void {
  const { config, graph } = model;
  const writer = new CaptureWriter(directory, {
    runtime: { name: "tiny", version: "1", device: "cpu", dtype: "bfloat16" },
  });
  const rows = new RowTable();
  const run = tinyEvaluator(model, rows);
  const pools = new Map<string, Float64Array>();
  const { keyValueHeadCount: heads, headDim } = config;
  const strides =
    layout === "NHD"
      ? [pageSize * heads * headDim, heads * headDim, headDim, 1]
      : [pageSize * heads * headDim, headDim, pageSize * headDim, 1];
  let storage = 0;
  let token = 1;
  tinySteps.slice(0, stepCount).forEach(({ seqIds, counts }, stepIndex) => {
    const qoIndptr = [0];
    for (const n of counts) qoIndptr.push(qoIndptr.at(-1)! + n);
    const tokenIds = Array.from({ length: qoIndptr.at(-1)! }, () => (token = (token * 5 + 3) % config.vocabularySize));
    const placed = rows.append({ step: stepIndex, seqIds, tokenIds, qoIndptr });
    const stepRows = rows.rowsOf(stepIndex);
    writer.step(
      stepEvent(
        stepIndex,
        seqIds,
        tokenIds,
        qoIndptr,
        placed.lengths,
        [...stepRows].map((r) => rows.position[r]!),
      ),
    );
    for (const node of graph.nodes.values()) {
      const { value } = run.read(node.name, stepRows, "");
      if (node.name === "sample") {
        const last = seqIds.map((_, b) => qoIndptr[b + 1]! - 1);
        writer.sample({ event: "sample", step: stepIndex, token_ids: last.map((r) => value[r]!) });
      } else if (/_cache$/.test(node.name)) {
        const pool = pools.get(node.name) ?? new Float64Array(6 * strides[0]!).fill(0.5);
        pools.set(node.name, pool);
        for (let r = 0; r < stepRows.length; r++) {
          const { page, entry } = place(rows, stepRows[r]!);
          for (let c = 0; c < node.columns; c++) {
            const at = page * strides[0]! + entry * strides[1]! + Math.floor(c / headDim) * strides[2]! + (c % headDim);
            pool[at] = value[r * node.columns + c]!;
          }
        }
        const view: PagedView = {
          storage: node.name,
          epoch: stepIndex,
          dtype: "bfloat16",
          layout,
          page_size: pageSize,
          heads,
          head_dim: headDim,
          strides: [...strides],
          offset: 0,
          pages: seqIds.flatMap((id, b) => pagesOf[id]!.slice(0, Math.ceil(placed.lengths[b]! / pageSize))),
        };
        const page = (p: number) => encode(pool.subarray(p * strides[0]!, (p + 1) * strides[0]!), "bfloat16");
        writer.paged(node.name, "output", view, page, "append");
        writer.paged(node.name, "input", view, page, "attention");
      } else {
        const shape = node.heads
          ? [stepRows.length, node.heads, node.columns / node.heads]
          : [stepRows.length, node.columns];
        const view: DenseView = {
          storage: `s${storage++}`,
          epoch: 0,
          dtype: "bfloat16",
          shape,
          strides: contiguousStrides(shape),
          offset: 0,
        };
        writer.dense(node.name, "output", view, encode(value, "bfloat16"), node.op.kind);
        if (/rope$/.test(node.name)) writer.dense(node.name, "input", view, encode(value, "bfloat16"), "attention");
      }
    }
  });
  writer.finishStep();
}

function place(rows: RowTable, row: number): { page: number; entry: number } {
  const position = rows.position[row]!;
  return { page: pagesOf[rows.seqId[row]!]![Math.floor(position / pageSize)]!, entry: position % pageSize };
}

function stepEvent(
  step: number,
  seqIds: number[],
  tokenIds: number[],
  qoIndptr: number[],
  lengths: readonly number[],
  positions: number[],
): StepEvent {
  const tables = seqIds.map((id, b) => pagesOf[id]!.slice(0, Math.ceil(lengths[b]! / pageSize)));
  const kvIndptr = [0];
  for (const table of tables) kvIndptr.push(kvIndptr.at(-1)! + table.length);
  const slots: number[] = [];
  seqIds.forEach((id, b) => {
    for (let i = qoIndptr[b]!; i < qoIndptr[b + 1]!; i++) {
      slots.push(pagesOf[id]![Math.floor(positions[i]! / pageSize)]! * pageSize + (positions[i]! % pageSize));
    }
  });
  return {
    event: "step",
    step,
    seq_ids: seqIds,
    token_ids: tokenIds,
    qo_indptr: qoIndptr,
    positions,
    kv_indptr: kvIndptr,
    kv_indices: tables.flat(),
    kv_last_page_len: lengths.map((n) => ((n - 1) % pageSize) + 1),
    slot_mapping: slots,
    page_size: pageSize,
  };
}
