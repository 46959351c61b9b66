import { describe, expect, it } from "vitest";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { drawSample } from "../../src/diagnose/bits/sample.js";
import { compareBlock, statisticsOf } from "../../src/diagnose/bits/statistics.js";
import { Evaluator } from "../../src/spec/evaluator.js";
import type { GraphNode } from "../../src/spec/graph.js";
import { readModelConfig } from "../../src/spec/models/config-file.js";
import { decoderGraph } from "../../src/spec/models/decoder.js";
import { Checkpoint } from "../../src/tensor/checkpoint.js";
import type { DType } from "../../src/tensor/dtype.js";

const folder = new URL("../../models/ishmael-7m", import.meta.url).pathname;
const { config } = readModelConfig(folder);
const graph = decoderGraph(config);
const checkpoint = new Checkpoint(folder);

interface Judged {
  readonly units: number;
  readonly rmsZ: number;
  readonly worst: { readonly name: string; readonly rmsZ: number };
}

/** rms z per type of value over a correct recording, each value judged on its own recorded inputs. */
function judge(path: string, store: DType, rowLimit: number): Map<string, Judged> {
  const capture = openCapture(new URL(`../golden/${path}`, import.meta.url).pathname);
  const observations = new CaptureObservations(capture, graph);
  const evaluator = new Evaluator({
    graph,
    parameters: checkpoint,
    rows: observations.rows,
    precision: { store, compute: "float32" },
    observations,
    noise: true,
  });
  const types = new Map<string, { squares: number; units: number; worst: { name: string; rmsZ: number } }>();
  for (const node of graph.nodes.values()) {
    if (!observations.has(node.name) || node.op.kind === "argmax") continue;
    const { rows, columns } = drawSample(node, observations.outputRows(node.name), observations.rows, {
      rows: rowLimit,
      columns: 128,
    });
    if (rows.length === 0 || reach(node, (name) => observations.has(name)) > 1) continue;
    const observed = new Float64Array(rows.length * columns.length);
    for (const [i, row] of rows.entries()) {
      const { value } = observations.output(node.name, row)!;
      for (const [j, column] of columns.entries()) observed[i * columns.length + j] = value[column]!;
    }
    const block = evaluator.evaluate(node.name, rows, columns);
    const { rmsZ, nonFinite } = statisticsOf(
      compareBlock(block, observed, observations.dtype(node.name)!, rows, columns),
    );
    expect(nonFinite, node.name).toBe(0);
    const type = node.name.replace(/^model\.layers\.\d+\.?/, "");
    const known = types.get(type) ?? { squares: 0, units: 0, worst: { name: "", rmsZ: 0 } };
    const worst = rmsZ > known.worst.rmsZ ? { name: node.name, rmsZ } : known.worst;
    types.set(type, { squares: known.squares + rmsZ * rmsZ, units: known.units + 1, worst });
  }
  capture.close();
  return new Map(
    [...types].map(([type, t]) => [type, { units: t.units, rmsZ: Math.sqrt(t.squares / t.units), worst: t.worst }]),
  );
}

/** Layers a value's unit reaches back until it meets recorded values. */
function reach(node: GraphNode, recorded: (name: string) => boolean, seen = new Set<string>()): number {
  let farthest = 0;
  const visit = (at: GraphNode) => {
    farthest = Math.max(farthest, (node.layer ?? config.layerCount) - (at.layer ?? node.layer ?? config.layerCount));
    for (const name of at.inputs) {
      if (recorded(name) || seen.has(name)) continue;
      seen.add(name);
      visit(graph.node(name));
    }
  };
  visit(node);
  return farthest;
}

describe.each([
  ["hf_prefill_bf16_cpu.safetensors", "bfloat16", 18, 28],
  ["hf_prefill_fp32_cpu.safetensors", "float32", 9, 28],
  ["paged_bf16", "bfloat16", 8, 3],
] as const)("%s, in which nothing is wrong", (path, store, rowLimit, layers) => {
  const types = judge(path, store, rowLimit);

  it("shows the noise that was predicted, for every type of value", () => {
    expect(types.size).toBeGreaterThan(14);
    const rounded = [...types].filter(([, { rmsZ }]) => rmsZ > 0);
    for (const [type, { rmsZ, worst }] of rounded) {
      expect(rmsZ, type).toBeGreaterThan(0.2);
      expect(rmsZ, type).toBeLessThan(1.4);
      expect(worst.rmsZ, worst.name).toBeLessThan(2);
    }
  });

  it("copies exactly where nothing is computed", () => {
    for (const type of ["model.embed_tokens", "model"]) {
      const copied = types.get(type);
      if (copied) expect(copied.rmsZ, type).toBe(0);
    }
  });

  it("was checked in every layer it records", () => {
    expect(types.get("input_layernorm")!.units).toBeGreaterThanOrEqual(layers);
    expect(types.get("self_attn.q_rope")!.units).toBeGreaterThanOrEqual(layers);
  });
});
