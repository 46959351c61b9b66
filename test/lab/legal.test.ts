import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { randomSteps } from "../../src/lab/batch.js";
import { type CorrectRun, type CorrectScore, correctRuns, judgeCorrectRuns } from "../../src/lab/correct/runs.js";
import { decoys } from "../../src/lab/decoys.js";
import { runData } from "../../src/lab/format.js";
import { plainImplementation } from "../../src/lab/legal.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import { UnitRecipe } from "../../src/spec/recipe.js";
import { roleOf } from "../../src/spec/site.js";
import { briefVerdict } from "../diagnose/brief-verdict.js";
import { expectPublished } from "../published.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 2, vocab_size: 300 };

/** Small runs of the public set, shorter and with a layer less. */
function smallRuns(count: number): CorrectRun[] {
  const small = correctRuns(540).filter(({ model }) => model.options.config?.hidden_size === undefined);
  const every = Math.floor(small.length / count);
  return small
    .filter((_, i) => i % every === 0)
    .slice(0, count)
    .map(({ model, number }) => {
      const options = { ...model.options, config: { ...model.options.config, ...config } };
      return { number, model: { ...model, options, longest: 10 } };
    });
}

describe("correct implementations", () => {
  // Twelve whole diagnoses, runs from the tokens included: on a busy machine more than two minutes.
  it("are never accused: 12 small runs of the public set", { timeout: 300_000 }, async () => {
    const stores = new Set<string>();
    const [first, ...others] = smallRuns(12);
    const scores: CorrectScore[] = [];
    for await (const score of judgeCorrectRuns([first!], folder, true)) scores.push(score);
    for await (const score of judgeCorrectRuns(others, folder)) scores.push(score);
    for (const score of scores) {
      expect(score.accused, JSON.stringify(score)).toBe(false);
      stores.add(score.store);
    }
    expect(scores).toHaveLength(12);
    expectPublished("lab-run", runData(scores, []));
    expect(stores.size).toBe(3);
  });
});

describe("a correct run in TF32 of which the residual stream alone is recorded", () => {
  it("is clean: no product's bits tell the precision, the spans around them do", async () => {
    const model = writeTinyModel(join(folder, "stream"), { family: "qwen2", seed: 9, config });
    const path = join(folder, "stream.safetensors");
    const random = randomGenerator(5);
    const recording = runLab({
      model,
      store: "float32",
      path,
      steps: randomSteps(random, model.config.vocabularySize, [[24]]),
      streamOnly: true,
      implement: (graph) => {
        const plain = plainImplementation(graph, "float32");
        const narrow = [...graph.nodes.values()].flatMap((node) => {
          const recipe = node.op.recipes?.find(({ settings }) => settings.narrow === "tf32");
          return recipe && node.layer !== undefined ? [[roleOf(node), recipe] as const] : [];
        });
        return {
          ...plain,
          recipe: new UnitRecipe("float32", new Map(narrow)),
          precision: { store: "float32", compute: "tf32" },
        };
      },
    });
    const verdict = await briefVerdict(recording.path, model.directory);
    expect(verdict).toMatchObject({ verdict: "clean", causes: [], findings: [] });
  });
});

describe("decoys", () => {
  it.each(decoys)("$id", { timeout: 60_000 }, async (decoy) => {
    const uniformNorms = decoy.uniformNorms ?? false;
    const model = writeTinyModel(join(folder, decoy.id), { seed: 9, uniformNorms, config });
    expect(decoy.applies(model.config)).toBe(true);
    const path = join(folder, `${decoy.id}.safetensors`);
    const steps = randomSteps(randomGenerator(3), model.config.vocabularySize, [[20]]);
    runLab({ model, steps, store: "bfloat16", path, injections: [decoy.inject(model)] });
    const verdict = await briefVerdict(path, model.directory);
    expect(verdict.causes.filter(({ cause }) => !decoy.benign.includes(cause))).toEqual([]);
    for (const cause of verdict.causes) expect(cause.latent).toBe(true);
    if (decoy.benign.length === 0) expect(verdict.verdict).toBe("clean");
  });
});
