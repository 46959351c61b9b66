import { describe, expect, it } from "vitest";
import { requireWidths } from "../../src/engine/device/widths.js";
import { expectComplete, valuesRead, valuesWritten } from "../../src/engine/program/dataflow.js";
import { fuse } from "../../src/engine/program/fuse.js";
import { allFusions, type Fusions, noFusions } from "../../src/engine/program/fusions.js";
import { standardProgram } from "../../src/engine/program/standard-program.js";
import type { Step } from "../../src/engine/program/step.js";
import type { Graph } from "../../src/spec/graph.js";
import { parseModelConfig } from "../../src/spec/models/config.js";
import { decoderGraph } from "../../src/spec/models/decoder.js";
import { activation } from "../../src/spec/ops/activation.js";
import { rmsNorm } from "../../src/spec/ops/rmsnorm.js";
import { tinyConfig, tinyConfigJson } from "./tiny-model.js";

const graph = decoderGraph(tinyConfig);
const layer = "model.layers.1";
const slots: Record<string, readonly string[]> = {
  qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
  qk_norm: ["self_attn.q_norm", "self_attn.k_norm"],
  "gate+up": ["mlp.gate_proj", "mlp.up_proj"],
};

/** A slot holds parameters of one layer in the table's order. */
function slotOf(names: readonly string[]): string | undefined {
  return Object.keys(slots).find((label) => {
    const [, number] = /layers\.(\d+)/.exec(names[0]!) ?? [];
    return slots[label]!.map((name) => `model.layers.${number}.${name}.weight`).join() === names.join();
  });
}

function fused(fusions: Fusions, takesNorm = true, of: Graph = graph): Step[] {
  return fuse(standardProgram(of), fusions, { graph: of, slotOf, takesNorm: () => takesNorm });
}

const labels = (steps: readonly Step[]) => steps.map(({ label }) => label);
const ofLayer = (steps: readonly Step[]) => steps.filter(({ computes }) => computes[0]!.startsWith(`${layer}.`));

describe("the standard program", () => {
  it("is a step per op, in the spec's order, of which every value is computed once", () => {
    const steps = standardProgram(graph);
    const computed = [...graph.nodes.values()].filter(({ op }) => op.kind !== "argmax");
    expect(steps.flatMap(({ computes }) => computes).sort()).toEqual(computed.map(({ name }) => name).sort());
    const named = ["identity", "select"];
    expect(steps.length).toBe(computed.filter(({ op }) => !named.includes(op.kind)).length);
    expectComplete(graph, steps);
  });

  it("refuses what no kernel means, naming the value", () => {
    const name = `${layer}.mlp.act_fn`;
    const refusal = (node: Parameters<Graph["with"]>[0]) => () => standardProgram(graph.with(node));
    expect(refusal([{ ...graph.node(name), op: activation("gelu") }])).toThrow(
      `${name}: the GPU paths have no kernel for the activation gelu`,
    );
    const weight = "model.norm.weight";
    const offset = rmsNorm({ weight, epsilon: 1e-6, width: 32, weightOffset: 1 });
    expect(refusal([{ ...graph.node("model.norm"), op: offset }])).toThrow("no kernel for weightOffset of rmsnorm");
    const unknown = { ...graph.node(name).op, kind: "router" };
    expect(refusal([{ ...graph.node(name), op: unknown }])).toThrow(`${name}: the GPU paths have no kernel for the op`);
  });
});

describe("fusions", () => {
  it("turn a layer of decode into five steps", () => {
    expect(labels(ofLayer(fused(allFusions)))).toEqual([
      "rmsnorm+qkv",
      "qk_norm+rope+append+attention",
      "merge+o_proj+residual",
      "rmsnorm+gate+up+silu",
      "down_proj+residual",
    ]);
  });

  it("leave the norm outside a product whose kernel takes its input as it is", () => {
    const steps = ofLayer(fused({ ...allFusions, prologue: false, merge: false }, false));
    expect(labels(steps)).toEqual([
      "input_layernorm",
      "qkv",
      "qk_norm+rope+append",
      "attention",
      "o_proj+residual",
      "post_attention_layernorm",
      "gate+up+silu",
      "down_proj+residual",
    ]);
  });

  it.each(Object.keys(allFusions) as (keyof Fusions)[])(
    "stay the spec with %s alone, and with all but it",
    (fusion) => {
      for (const fusions of [
        { ...noFusions, [fusion]: true },
        { ...allFusions, [fusion]: false },
      ]) {
        const steps = fused(fusions);
        expectComplete(graph, steps);
        const standard = standardProgram(graph).flatMap(({ computes }) => computes);
        expect(steps.flatMap(({ computes }) => computes).sort()).toEqual(standard.sort());
      }
      expect(fused({ ...allFusions, [fusion]: false })).not.toEqual(fused(allFusions));
    },
  );

  it("let captures follow: what a step reads comes from before it, what it leaves is what others read", () => {
    const steps = ofLayer(fused(allFusions));
    const own = (names: readonly string[]) => names.map((name) => name.replace(`${layer}.`, ""));
    expect(own(valuesRead(graph, steps[0]!))).toEqual(["model.layers.0"]);
    expect(own(valuesWritten(graph, steps[0]!))).toEqual(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]);
    expect(own(valuesWritten(graph, steps[1]!))).toEqual([
      "self_attn.k_cache",
      "self_attn.v_cache",
      "self_attn.o_proj.input",
    ]);
    // States of split attention are no value of the spec.
    expect(own(valuesRead(graph, steps[2]!))).toEqual(["model.layers.0"]);
    expect(own(valuesRead(graph, steps[4]!)).sort()).toEqual(["mlp.down_proj.input", "post_attention_layernorm.input"]);
    expect(valuesWritten(graph, steps[4]!)).toEqual([layer]);
  });

  it("do not swallow a value that something else reads", () => {
    const normed = `${layer}.input_layernorm`;
    const add = graph.node(`${layer}.post_attention_layernorm.input`);
    const other = graph.with([{ ...add, inputs: [normed, add.inputs[1]!] }]);
    const steps = ofLayer(fused(allFusions, true, other));
    expect(labels(steps).slice(0, 2)).toEqual(["input_layernorm", "qkv"]);
    expectComplete(other, fused(allFusions, true, other));
  });

  it("do not leave states of attention to a product that is not their only reader", () => {
    const norm = graph.node(`${layer}.post_attention_layernorm.input`);
    const other = graph.with([{ ...norm, inputs: [norm.inputs[0]!, `${layer}.self_attn.o_proj.input`] }]);
    const attend = (of: Graph) => ofLayer(fused(allFusions, true, of)).find((step) => step.kind === "attend");
    expect(attend(graph)).toMatchObject({ mergedBy: "consumer" });
    expect(attend(other)).toMatchObject({ mergedBy: "itself" });
  });

  it("are checked: a program that forgets or repeats a value is an error", () => {
    const steps = standardProgram(graph);
    expect(() => expectComplete(graph, steps.slice(1))).toThrow("which no step before it leaves");
    expect(() => expectComplete(graph, [...steps, steps.at(-1)!])).toThrow("lm_head computes lm_head.input again");
    expect(() => expectComplete(graph, steps.slice(0, -1))).toThrow("no step computes lm_head");
  });
});

describe("widths that kernels cannot load are refused before anything is loaded", () => {
  const wrong = (json: Partial<typeof tinyConfigJson>) =>
    decoderGraph(parseModelConfig({ ...tinyConfigJson, ...json }, "wrong"));

  it.each([
    [{ intermediate_size: 44 }, "mlp.down_proj: the GPU paths have no kernel for 44 inputs"],
    [{ hidden_size: 36 }, "model.embed_tokens: the GPU paths have no kernel for 36 columns"],
    [{ head_dim: 20 }, "o_proj.input: the GPU paths have no kernel for 20 channels of a head"],
    [{ head_dim: 264 }, "no kernel for 264 channels of a head, more than 256"],
    [{ num_attention_heads: 34 }, "no kernel for 17 query heads per KV head, more than 16"],
  ])("%o", (json, message) => {
    expect(() => requireWidths(wrong(json))).toThrow(message);
  });

  it("but those of the tiny model pass", () => expect(() => requireWidths(graph)).not.toThrow());
});
