import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { randomSteps } from "../../src/lab/batch.js";
import { decoys } from "../../src/lab/decoys.js";
import { legalImplementation } from "../../src/lab/legal.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { tinyFamilies, writeTinyModel } from "../../src/lab/tiny-model.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 2, vocab_size: 300 };
const models = tinyFamilies.map((family) => writeTinyModel(join(folder, family), { family, seed: 7, config }));

describe("correct implementations", () => {
  it("are never accused by the diagnosis, over 200 draws", { timeout: 400_000 }, async () => {
    const stores = ["bfloat16", "float16", "float32"] as const;
    for (let draw = 0; draw < 200; draw++) {
      const random = randomGenerator(draw + 5000);
      const model = models[draw % models.length]!;
      const store = stores[Math.floor(random() * stores.length)]!;
      const steps = randomSteps(random, model.config.vocabularySize, [[3 + Math.floor(random() * 20)]]);
      const path = join(folder, `drawn-${draw}.safetensors`);
      const { implementation } = runLab({
        model,
        steps,
        store,
        path,
        implement: (graph) => legalImplementation(graph, model.parameters, store, random),
      });
      const verdict = await diagnose({ target: path, model: model.directory });
      rmSync(path);
      const drawn = `draw ${draw}: ${JSON.stringify(implementation.description)}`;
      expect(verdict.causes, drawn).toEqual([]);
      expect(verdict.findings, drawn).toEqual([]);
    }
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
    const verdict = await diagnose({ target: path, model: model.directory });
    expect(verdict.causes.filter(({ cause }) => !decoy.benign.includes(cause))).toEqual([]);
    for (const cause of verdict.causes) expect(cause.latent).toBe(true);
    if (decoy.benign.length === 0) expect(verdict.verdict).toBe("clean");
  });
});
