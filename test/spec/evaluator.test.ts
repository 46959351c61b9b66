import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { Evaluator, type EvaluatorOptions } from "../../src/spec/evaluator.js";
import type { GraphNode } from "../../src/spec/graph.js";
import { add } from "../../src/spec/ops/add.js";
import { writePagedCapture, writeTinyModel } from "../capture/tiny-run.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-evaluator-"));
const model = writeTinyModel(join(folder, "model"));
writePagedCapture(join(folder, "capture"), model);
const capture = openCapture(join(folder, "capture"));
const observations = new CaptureObservations(capture, model.graph);
afterAll(() => {
  capture.close();
  rmSync(folder, { recursive: true, force: true });
});

const options: EvaluatorOptions = {
  graph: model.graph,
  parameters: model.checkpoint,
  rows: observations.rows,
  precision: { store: "bfloat16", compute: "float32" },
  noise: true,
};
const free = () => new Evaluator(options);
const observed = () => new Evaluator({ ...options, observations });
const allRows = Int32Array.from({ length: observations.rows.count }, (_, i) => i);
const nodes = [...model.graph.nodes.values()];

/** The part of a full block that a smaller request asks for. */
function part(full: Float64Array, width: number, rows: Int32Array, columns: Int32Array): number[] {
  return [...rows].flatMap((row) => [...columns].map((column) => full[row * width + column]!));
}

describe("asking for less", () => {
  it.each([
    ["from the tokens", free],
    ["from recorded values", observed],
  ])("gives the same numbers and the same noise, %s", (_, make) => {
    const whole = make();
    for (const node of nodes) {
      const all = whole.evaluate(node.name, allRows);
      const rows = Int32Array.of(13, 2, 7);
      const columns = Int32Array.from(node.columns > 2 ? [node.columns - 1, 0, 2] : [0]);
      const some = make().evaluate(node.name, rows, columns);
      const expected = part(all.value, node.columns, rows, columns);
      const variance = part(all.variance, node.columns, rows, columns);
      for (let i = 0; i < expected.length; i++) {
        expect(some.value[i], node.name).toBeCloseTo(expected[i]!, 12);
        if (variance[i] === Infinity) expect(some.variance[i]).toBe(Infinity);
        else expect(some.variance[i]! / (variance[i]! || 1), node.name).toBeCloseTo(variance[i] ? 1 : 0, 9);
      }
    }
  });

  it("repeats itself when asked again, and after forgetting", () => {
    const evaluator = free();
    const name = "model.layers.1";
    const first = evaluator.read(name, allRows, "").value;
    expect(evaluator.read(name, allRows, "").value).toEqual(first);
    evaluator.forget((value) => value.endsWith("_cache"));
    expect(evaluator.read(name, allRows, "").value).toEqual(first);
  });
});

describe("recorded values", () => {
  it("are where a unit begins: its own record is not consulted", () => {
    const name = "model.layers.0.mlp.gate_proj";
    const evaluator = observed();
    const { value } = evaluator.evaluate(name, allRows);
    const record = observations.output(name, 0)!.value;
    expect(value[0]).not.toBe(record[0]);
    expect(value[0]! / record[0]!).toBeCloseTo(1, 1);
    expect(evaluator.read(name, allRows, "").value[0]).toBe(record[0]);
  });

  it("make errors local: a wrong record changes its consumers' meaning alone", () => {
    const broken = "model.layers.0.self_attn.o_proj";
    const tampered = new Evaluator({
      ...options,
      observations: {
        has: (name) => observations.has(name),
        row(name, row, consumer, readAt) {
          const seen = observations.row(name, row, consumer, readAt);
          return seen && name === broken ? { ...seen, value: seen.value.map((v) => v + 1) } : seen;
        },
      },
    });
    const sound = observed();
    const changed = nodes.filter((node) => {
      const a = sound.evaluate(node.name, allRows).value;
      const b = tampered.evaluate(node.name, allRows).value;
      return a.some((value, i) => value !== b[i]);
    });
    expect(changed.map((node) => node.name)).toEqual(["model.layers.0.self_attn"]);
  });
});

describe("a rewrite", () => {
  const target = "model.layers.0.post_attention_layernorm.input";
  const dropped: GraphNode = { ...model.graph.node(target), op: add([0, 1]) };

  /** Values a change of `name` reaches. */
  function downstream(name: string, stop: (value: string) => boolean): Set<string> {
    const reached = new Set<string>([name]);
    const visit = (at: string) => {
      for (const next of model.graph.consumers(at)) {
        if (reached.has(next)) continue;
        reached.add(next);
        if (!stop(next)) visit(next);
      }
    };
    visit(name);
    return reached;
  }

  it("changes what follows from it and nothing else", () => {
    const base = free();
    const rewritten = base.rewritten([dropped]);
    const reached = downstream(target, () => false);
    for (const node of nodes) {
      const before = base.read(node.name, allRows, "").value;
      const after = rewritten.read(node.name, allRows, "").value;
      if (!reached.has(node.name)) expect(after, node.name).toEqual(before);
      else if (node.op.kind !== "argmax") expect(after, node.name).not.toEqual(before);
    }
    expect(base.graph.node(target).op.attributes).toEqual({ weights: [1, 1] });
  });

  it("stops at recorded values", () => {
    const base = observed();
    const rewritten = base.rewritten([dropped]);
    const changed = nodes.filter((node) => {
      const a = base.evaluate(node.name, allRows).value;
      return rewritten.evaluate(node.name, allRows).value.some((value, i) => value !== a[i]);
    });
    expect(changed.map((node) => node.name)).toEqual([target]);
  });

  it("may be rewritten again", () => {
    const base = free();
    const healed = base.rewritten([dropped]).rewritten([model.graph.node(target)]);
    expect(healed.read("lm_head", allRows, "").value).toEqual(base.read("lm_head", allRows, "").value);
  });
});
