import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { catalogue, findFault } from "../../src/lab/catalogue.js";
import { tinyFamilies, writeTinyModel } from "../../src/lab/tiny-model.js";
import { discard, runTrial, type Trial, unitsBeyondNoise } from "../../src/lab/trial.js";
import type { DType } from "../../src/tensor/dtype.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
/** Of each family a small model first; then what a fault may need to be seen: more layers, more words, a bias behind attention. */
const small = { num_hidden_layers: 2, vocab_size: 300 };
const models = [
  ...tinyFamilies.map((family) => ({ name: `${family}-small`, family, config: small })),
  ...tinyFamilies.map((family) => ({ name: family, family, config: {} })),
  { name: "biased", family: "llama", config: { ...small, attention_bias: true } },
].map(({ name, ...options }) => writeTinyModel(join(folder, name), { seed: 11, ...options }));
const families = tinyFamilies.length;
const stores: readonly DType[] = ["bfloat16", "float16", "float32"];

describe("the catalogue", () => {
  it("has every single-run fault of the taxonomy that module outputs can show", () => {
    const numbers =
      "I01 I02 I03 I05 I07 I08 I09 I10 I11 I12 I14 I15 I16 I17 I18 I19 I22 I23 I24 I25 I26 I27 I28 I29 I30 I33 I34 I42 I43 I53 I54 I55 I56 I57 I61 I63 I64 I67 I70";
    for (const number of numbers.split(" ")) {
      expect(
        catalogue.some(({ id }) => id.startsWith(`${number}-`)),
        number,
      ).toBe(true);
    }
  });

  it("names each fault once", () => {
    expect(new Set(catalogue.map(({ id }) => id)).size).toBe(catalogue.length);
  });

  it("finds a fault by its id or its readable name, and says what is possible otherwise", () => {
    expect(findFault("I15-norm-missing").id).toBe("I15-norm-missing");
    expect(findFault("norm-missing").id).toBe("I15-norm-missing");
    expect(findFault("I15").id).toBe("I15-norm-missing");
    expect(() => findFault("I10")).toThrow(/expected one of I10-bias-dropped, I10-bias-scaled/);
    expect(() => findFault("nonsense")).toThrow(/expected an id that lab list prints/);
  });
});

/** Units beyond noise, of which none may be another than the fault's own. */
function judged(trial: Trial): ReadonlyMap<string, number> {
  try {
    return unitsBeyondNoise(trial);
  } finally {
    discard(trial);
  }
}

describe("a fault shows in its first bad values and nowhere else", () => {
  it.each(catalogue.map((fault, i) => ({ fault, i })))("$fault.id", { timeout: 60_000 }, ({ fault, i }) => {
    let shown = 0;
    for (let attempt = 0; attempt < models.length && shown < 1; attempt++) {
      // Faults begin with different families; each goes through all, the small ones first.
      const first = Math.floor(attempt / families) * families;
      const model = models[attempt < 2 * families ? first + ((i + attempt) % families) : attempt]!;
      const store = stores[(i + attempt) % stores.length]!;
      const trial = runTrial({ model, fault, store, seed: attempt, folder });
      if (!trial) continue;
      const beyond = judged(trial);
      const settings = `${model.config.modelType} ${store} layer ${trial.layers} ${JSON.stringify(trial.values)}`;
      expect(
        [...beyond.keys()].filter((unit) => !trial.run.bad.has(unit)),
        settings,
      ).toEqual([]);
      if (fault.hiddenWhen === "never") expect(beyond.size, settings).toBe(trial.run.bad.size);
      if (beyond.size > 0) shown++;
    }
    expect(shown).toBeGreaterThan(0);
  });

  it("in several layers at once, each judged on its own inputs", () => {
    const fault = findFault("I63-residual-dropped");
    const model = models[families]!;
    const trial = runTrial({ model, fault, store: "bfloat16", seed: 1, folder, layers: [0, 2] })!;
    const beyond = judged(trial);
    expect(new Set(beyond.keys())).toEqual(trial.run.bad);
    expect([...beyond.keys()].every((unit) => /layers\.[02]/.test(unit))).toBe(true);
  });
});
