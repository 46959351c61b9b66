import { rmSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { excess, unitClass } from "../../src/diagnose/limits.js";
import { randomSteps } from "../../src/lab/batch.js";
import { accumulate, type Calibration, calibrate, legalRuns } from "../../src/lab/calibrate.js";
import { decoys } from "../../src/lab/decoys.js";
import { legalImplementation, plainImplementation } from "../../src/lab/legal.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { tinyFamilies, writeTinyModel } from "../../src/lab/tiny-model.js";
import { unitStatistics } from "../../src/lab/units.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 2, vocab_size: 300 };
const models = tinyFamilies.map((family) => writeTinyModel(join(folder, family), { family, seed: 7, config }));

describe("correct implementations", () => {
  it("stay within rounding, unit by unit, over 60 draws", { timeout: 300_000 }, () => {
    const worst: Calibration = {};
    let draws = 0;
    for (const { seed, model, precision, statistics, description } of legalRuns(models, 60, folder)) {
      draws++;
      accumulate(worst, model, statistics, precision);
      for (const [name, unit] of statistics) {
        const { kind } = model.graph.node(name).op;
        expect(
          excess(unit, unitClass([kind])),
          `draw ${seed}, ${name}, ${JSON.stringify(description)}`,
        ).toBeLessThanOrEqual(1);
      }
    }
    expect(draws).toBe(60);
    const kinds = ["add", "attention", "embedding", "linear", "rmsnorm", "rope"];
    for (const kind of kinds) expect(Object.keys(worst).some((key) => key.startsWith(`${kind} `))).toBe(true);
  });

  it("are never accused by the diagnosis, over 200 draws", { timeout: 400_000 }, () => {
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
      const verdict = diagnose({ target: path, model: model.directory });
      rmSync(path);
      const drawn = `draw ${draw}: ${JSON.stringify(implementation.description)}`;
      expect(verdict.causes, drawn).toEqual([]);
      expect(verdict.findings, drawn).toEqual([]);
    }
  });
});

describe("decoys", () => {
  it.each(decoys)("$id", { timeout: 60_000 }, (decoy) => {
    const uniformNorms = decoy.uniformNorms ?? false;
    const model = writeTinyModel(join(folder, decoy.id), { seed: 9, uniformNorms, config });
    expect(decoy.applies(model.config)).toBe(true);
    const path = join(folder, `${decoy.id}.safetensors`);
    const steps = randomSteps(randomGenerator(3), model.config.vocabularySize, [[20]]);
    runLab({ model, steps, store: "bfloat16", path, injections: [decoy.inject(model)] });
    const verdict = diagnose({ target: path, model: model.directory });
    expect(verdict.causes.filter(({ cause }) => !decoy.benign.includes(cause))).toEqual([]);
    for (const cause of verdict.causes) expect(cause.latent).toBe(true);
    if (decoy.benign.length === 0) expect(verdict.verdict).toBe("clean");
  });
});

describe("calibration", () => {
  it("gives limits above what correct runs show, from recordings and drawn runs alike", { timeout: 60_000 }, () => {
    const model = models[0]!;
    const path = join(folder, "correct.safetensors");
    const steps = randomSteps(randomGenerator(1), model.config.vocabularySize, [[12]]);
    runLab({ model, steps, store: "bfloat16", path, implement: (graph) => plainImplementation(graph, "bfloat16") });
    const options = { models, draws: 6, margin: 1.25, folder, recordings: [path], recorded: model };
    const { limits, worst } = calibrate(options);
    for (const extremes of Object.values(worst)) {
      expect(extremes.rmsZ).toBeLessThan(limits.rmsZ);
      expect(extremes.maxZ).toBeLessThan(limits.maxZ);
      expect(extremes.nonFinite).toBe(0);
    }
    const own = unitStatistics(path, model, { store: "bfloat16", compute: "float32" });
    for (const unit of own.values()) expect(unit.rmsZ).toBeLessThan(limits.rmsZ);
    expect(Object.keys(worst)).toContain("rmsnorm bfloat16 op");
  });
});
