import { describe, expect, it } from "vitest";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { Evaluator, type Observations } from "../../src/spec/evaluator.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { decoderGraph } from "../../src/spec/models/decoder.js";
import { areAll, indices } from "../../src/spec/op.js";
import { UnitRecipe } from "../../src/spec/recipe.js";
import { roleOf } from "../../src/spec/site.js";
import { Checkpoint } from "../../src/tensor/checkpoint.js";

const folder = new URL("../../models/ishmael-7m", import.meta.url).pathname;
const { config } = readModelConfig(folder);
const parameters = new Checkpoint(folder);
const pointwise = ["rmsnorm", "rope", "add", "multiply", "activation", "identity", "append", "select"];

describe.each(["hf_prefill_bf16_cpu.safetensors", "paged_bf16"])("whole rows of %s", (file) => {
  const capture = openCapture(new URL(`../golden/${file}`, import.meta.url).pathname);
  const observations = new CaptureObservations(capture, decoderGraph(config));
  const { graph, rows: table } = observations;
  const make = (seen: Observations, noise: boolean) =>
    new Evaluator({
      graph,
      parameters,
      rows: table,
      precision: { store: "bfloat16", compute: "float32" },
      observations: seen,
      noise,
    });
  const rows = Int32Array.from({ length: Math.min(12, table.count) }, (_, i) => i);
  const nodes = [...graph.nodes.values()].filter(({ op, layer }) => pointwise.includes(op.kind) && (layer ?? 0) < 2);

  it("are evaluated to the same bits from blocks, row by row, and beside their noise", () => {
    const byRow: Observations = {
      has: (name) => observations.has(name),
      row: (name, row, consumer, readAt) => observations.row(name, row, consumer, readAt),
    };
    let recipes = 0;
    for (const node of nodes) {
      for (const recipe of node.op.recipes ?? [undefined]) {
        const unit = new UnitRecipe("bfloat16", new Map(recipe ? [[roleOf(node), recipe]] : []));
        const of = (seen: Observations, noise: boolean) =>
          make(seen, noise).under(unit, node, noise).evaluate(node.name, rows).value;
        const value = of(observations, false);
        expect(value.length).toBe(rows.length * node.columns);
        for (const other of [of(byRow, false), of(observations, true)]) {
          expect(value.findIndex((x, i) => !Object.is(x, other[i]))).toBe(-1);
        }
        recipes++;
      }
    }
    expect(recipes).toBeGreaterThan(nodes.length);
  });

  it("come in the order of columns that is asked for", () => {
    for (const name of ["model.layers.1.self_attn", "model.layers.1.mlp.act_fn"]) {
      const { columns } = graph.node(name);
      const backwards = indices(columns).reverse();
      for (const noise of [false, true]) {
        const straight = make(observations, noise).evaluate(name, rows);
        const turned = make(observations, noise).evaluate(name, rows, backwards);
        for (let i = 0; i < straight.value.length; i++) {
          const at = Math.floor(i / columns) * columns + backwards[i % columns]!;
          if (turned.value[i] !== straight.value[at]) expect(turned.value[i]).toBe(straight.value[at]);
          if (turned.variance[i] !== straight.variance[at]) expect(turned.variance[i]).toBe(straight.variance[at]);
        }
      }
    }
  });
});

describe("all columns", () => {
  it("are all of them, each in its place", () => {
    expect(areAll(indices(5), 5)).toBe(true);
    expect(areAll(indices(0), 0)).toBe(true);
    expect(areAll(indices(4), 5)).toBe(false);
    expect(areAll(Int32Array.of(0, 2, 1), 3)).toBe(false);
  });
});
