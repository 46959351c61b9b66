import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { CauseId } from "../../src/diagnose/causes/catalogue.js";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { randomSteps } from "../../src/lab/batch.js";
import { findFault } from "../../src/lab/catalogue.js";
import type { FaultValues } from "../../src/lab/fault.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { type TinyFamily, writeTinyModel } from "../../src/lab/tiny-model.js";
import type { DType } from "../../src/tensor/dtype.js";
import { temporaryFolder } from "../lab/folder.js";

const folder = temporaryFolder();
const model = (family: TinyFamily) =>
  writeTinyModel(join(folder, family), { family, seed: 4, config: { num_hidden_layers: 2, vocab_size: 600 } });
const models = { qwen3: model("qwen3"), llama: model("llama") };

interface Case {
  readonly fault: string;
  readonly values?: FaultValues;
  readonly family: keyof typeof models;
  readonly store: DType;
  readonly cause: CauseId;
  /** What the statement says of the place. */
  readonly at: string;
  /** Layers recorded; the residual stream of all of them unless given. */
  readonly layers?: readonly number[];
}

const cases: readonly Case[] = [
  {
    fault: "T09-weight-quantised",
    values: { projection: "mlp.down_proj", type: "e4m3", part: "row" },
    family: "qwen3",
    store: "float16",
    cause: "weight-quantised",
    at: "mlp.down_proj of layer 1",
  },
  {
    fault: "T09-cache-rounded",
    values: { cache: "v", type: "int8", part: "head" },
    family: "llama",
    store: "float32",
    cause: "cache-rounded",
    at: "self_attn.o_proj of layer 1",
  },
  {
    fault: "I42-dtype-bits",
    values: { cache: "v" },
    family: "llama",
    store: "float16",
    cause: "dtype-bits",
    at: "v_cache",
  },
  {
    fault: "I09-key-value-swapped",
    family: "qwen3",
    store: "bfloat16",
    cause: "key-value-swapped",
    at: "k_proj and v_proj multiply by each other's weights",
  },
  {
    fault: "C9.13-rows-unwritten",
    values: { projection: "self_attn.v_proj", tile: 7, content: "zero" },
    family: "llama",
    store: "float32",
    cause: "rows-unwritten",
    at: "rows 7 to 11 of v_proj",
  },
  {
    fault: "I14-columns-unwritten",
    values: { projection: "mlp.up_proj", columns: 24, content: "previous" },
    family: "qwen3",
    store: "bfloat16",
    cause: "columns-unwritten",
    at: "columns 120 to 143 of up_proj hold what model.layers.0.mlp.up_proj left there",
  },
  {
    fault: "I14-columns-unwritten",
    values: { projection: "self_attn.v_proj", columns: 4, content: "previous" },
    family: "qwen3",
    store: "float16",
    cause: "columns-unwritten",
    at: "columns 28 to 31 still hold model.layers.0.self_attn.v_proj",
    layers: [1],
  },
  {
    fault: "T14-element-wrong",
    values: { value: "mlp.up_proj", row: 8, column: 23, holds: -3 },
    family: "llama",
    store: "float32",
    cause: "element-wrong",
    at: "row 8, column 23 of up_proj (about -3,",
  },
];

describe("what is wrong inside a span of unrecorded ops", () => {
  it.each(cases)("$fault in $store", async ({ fault: id, values = {}, family, store, cause, at, layers }) => {
    const { config, directory } = models[family];
    const path = join(folder, `${id}-${store}.safetensors`);
    runLab({
      model: models[family],
      store,
      path,
      steps: randomSteps(randomGenerator(7), config.vocabularySize, [[12]]),
      faults: [{ fault: findFault(id), layers: [1], values }],
      ...(layers ? { layers } : { streamOnly: true }),
    });
    const { causes } = await diagnose({ target: path, model: directory, quick: true });
    expect(causes.map((found) => found.cause)).toEqual([cause]);
    expect(causes[0]!.statement).toContain(at);
    expect(causes[0]!.alternatives).toEqual([]);
  });
});
