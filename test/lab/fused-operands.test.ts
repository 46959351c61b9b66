import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { randomSteps } from "../../src/lab/batch.js";
import { plainImplementation } from "../../src/lab/legal.js";
import { writeQuantisedModel } from "../../src/lab/quantised-model.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import { UnitRecipe } from "../../src/spec/recipe.js";
import { roleOf, type What } from "../../src/spec/site.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 2, vocab_size: 120, intermediate_size: 192 };
const plain = writeTinyModel(join(folder, "plain"), { seed: 7, config });

/** What norms and gates leave in float32 for the quantisation of the next product's operand. */
const fused = new Set<What>(["norm", "activated", "gated"]);

describe("operands quantised from what a norm or a gate left in float32, of which a rounded copy is recorded", () => {
  it.each([
    ["fp8-rows", 1, "operands-e4m3-scale-per-token"],
    ["fp8-rows", 6, "operands-e4m3-scale-per-token"],
    ["fp8-blocks", 2, "operands-e4m3-scale-per-32-channels"],
  ] as const)("are told as such: %s over %d", { timeout: 60_000 }, async (codec, ranks, recipe) => {
    const model = writeQuantisedModel(plain, join(folder, `${codec}-${ranks}`), codec);
    const path = join(folder, `run-${codec}-${ranks}`);
    runLab({
      model,
      store: "bfloat16",
      path,
      ranks,
      steps: randomSteps(randomGenerator(ranks), 120, [[9]]),
      implement(graph) {
        const nodes = [...graph.nodes.values()];
        const ops = nodes.flatMap((node) => {
          const own = node.op.recipes?.find(({ id }) => id === recipe);
          return own ? [[roleOf(node), own] as const] : [];
        });
        const kept = nodes.filter(({ site }) => fused.has(site.what)).map(roleOf);
        return {
          ...plainImplementation(graph, "bfloat16"),
          recipe: new UnitRecipe("bfloat16", new Map(ops), new Set(kept)),
        };
      },
    });
    const verdict = await diagnose({ target: path, model: model.directory, quick: true });
    expect([...verdict.causes, ...verdict.findings]).toEqual([]);
    expect(verdict.verdict).toBe("clean");
    const down = ranks > 1 ? "mlp.down_proj.partial.*" : "mlp.down_proj";
    for (const unit of ["self_attn.q_proj", "self_attn.v_proj", "mlp.gate_proj", "mlp.up_proj", down]) {
      const told = verdict.recipes.find((found) => found.unit === `model.layers.*.${unit}`)!;
      expect(told.recipe, unit).toBe(recipe);
      expect(told.matched, unit).toBe(told.of);
    }
  });
});
