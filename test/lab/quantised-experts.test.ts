import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { randomSteps } from "../../src/lab/batch.js";
import { writeQuantisedModel } from "../../src/lab/quantised-model.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import type { GraphNode } from "../../src/spec/graph.js";
import type { ExpertLinearAttributes } from "../../src/spec/ops/expert-linear.js";
import { nearestE4m3 } from "../spec/hand-rounding.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
const plain = writeTinyModel(join(folder, "plain"), {
  seed: 5,
  config: {
    model_type: "qwen3_moe",
    num_hidden_layers: 1,
    vocab_size: 120,
    num_experts: 6,
    num_experts_per_tok: 2,
    moe_intermediate_size: 64,
    norm_topk_prob: true,
    decoder_sparse_step: 1,
    mlp_only_layers: [],
  },
});
const model = writeQuantisedModel(plain, join(folder, "fp8-blocks"), "fp8-blocks");

/** A row in e4m3, a scale per group of channels: what vLLM's grouped fp8 products multiply. */
function narrowed(x: Float64Array, group: number): Float64Array {
  const out = new Float64Array(x.length);
  for (let first = 0; first < x.length; first += group) {
    const part = x.subarray(first, first + group);
    const scale = Math.fround(part.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-12) / 448);
    part.forEach((v, i) => {
      out[first + i] = nearestE4m3(Math.fround(v / scale)) * scale;
    });
  }
  return out;
}

/** Products of chosen experts, written out. */
function products(group: number): GraphNode[] {
  const nodes = [...model.graph.nodes.values()].filter(({ op }) => op.kind === "expert-linear");
  return nodes.map((node): GraphNode => {
    const { weight, width, topK, ownInputs } = node.op.attributes as unknown as ExpertLinearAttributes;
    return {
      ...node,
      op: {
        ...node.op,
        evaluate(context, rows, columns) {
          const x = context.input(0, rows).value;
          const chosen = context.input(1, rows).value;
          const inputs = ownInputs ? context.width(0) / topK : context.width(0);
          const value = new Float64Array(rows.length * columns.length);
          for (let r = 0; r < rows.length; r++) {
            columns.forEach((column, c) => {
              const slot = Math.floor(column / width);
              const start = ownInputs ? (r * topK + slot) * inputs : r * inputs;
              const own = narrowed(x.subarray(start, start + inputs), group);
              const name = (weight as string[])[chosen[r * topK + slot]!]!;
              const w = model.parameters.rows(name, column % width, 1);
              value[r * columns.length + c] = own.reduce((sum, v, k) => Math.fround(sum + v * w[k]!), 0);
            });
          }
          return { value, variance: new Float64Array(0) };
        },
      },
    };
  });
}

describe("experts in fp8 blocks, their operands quantised on the fly", () => {
  it("are clean, and told", { timeout: 60_000 }, async () => {
    const path = join(folder, "run");
    const steps = randomSteps(randomGenerator(2), 120, [[9]]);
    runLab({ model, store: "bfloat16", path, steps, injections: [{ nodes: products(32) }] });
    const verdict = await diagnose({ target: path, model: model.directory, quick: true });
    expect([...verdict.causes, ...verdict.findings]).toEqual([]);
    expect(verdict.verdict).toBe("clean");
    for (const unit of ["gate_proj", "up_proj", "down_proj"]) {
      const told = verdict.recipes.find((found) => found.unit === `model.layers.*.mlp.experts.${unit}`)!;
      expect(told, unit).toMatchObject({ recipe: "operands-e4m3-scale-per-32-channels", matched: 1, of: 1 });
    }
  });

  it("are judged where their operands are quantised in another way than the config says", {
    timeout: 60_000,
  }, async () => {
    const path = join(folder, "other");
    const steps = randomSteps(randomGenerator(2), 120, [[9]]);
    runLab({ model, store: "bfloat16", path, steps, injections: [{ nodes: products(8) }] });
    // Searches rewrite the choices as well, to numbers that are no expert's.
    const { causes } = await diagnose({ target: path, model: model.directory, quick: true });
    expect(causes.every(({ units }) => units.every((unit) => unit.startsWith("model.layers.0.mlp.")))).toBe(true);
  });
});
