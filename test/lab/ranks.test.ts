import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { randomSteps } from "../../src/lab/batch.js";
import { legalImplementation } from "../../src/lab/legal.js";
import { writeQuantisedModel } from "../../src/lab/quantised-model.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 1, vocab_size: 120, intermediate_size: 192 };
const plain = writeTinyModel(join(folder, "plain"), { seed: 3, config });
const models = {
  plain,
  "packed-int4": writeQuantisedModel(plain, join(folder, "packed-int4"), "packed-int4"),
};

describe("a correct run over ranks", () => {
  it.each([
    ["plain", 2],
    ["packed-int4", 2],
  ] as const)("is never accused, however it rounds: %s over %d", { timeout: 60_000 }, async (kept, ranks) => {
    const model = models[kept];
    const random = randomGenerator(ranks + kept.length);
    const path = join(folder, `${kept}-${ranks}`);
    const run = runLab({
      model,
      store: "bfloat16",
      path,
      ranks,
      steps: randomSteps(random, 120, [[9]]),
      implement: (graph, held) => legalImplementation(graph, held, "bfloat16", random),
    });
    expect([...run.recorded].filter((name) => name.includes(".partial.")).length).toBe(3 * ranks);
    const { verdict, causes, findings } = await diagnose({ target: path, model: model.directory, quick: true });
    expect([...causes, ...findings], JSON.stringify(run.implementation.description)).toEqual([]);
    expect(verdict).toBe("clean");
  });
});
