import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { randomSteps } from "../../src/lab/batch.js";
import { formatFaults, misreadWeight } from "../../src/lab/faults/weight-formats.js";
import { legalImplementation } from "../../src/lab/legal.js";
import { narrowedMatrix, storedAs } from "../../src/lab/narrow.js";
import { wholeParameter } from "../../src/lab/overlay.js";
import { writeQuantisedModel } from "../../src/lab/quantised-model.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import { type CodecId, weightCodecs } from "../../src/lab/weight-codecs.js";
import type { DType } from "../../src/tensor/dtype.js";
import { briefVerdict } from "../diagnose/brief-verdict.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 1, vocab_size: 200, intermediate_size: 160 };
const source = writeTinyModel(join(folder, "plain"), { seed: 3, config });
const codecs = Object.keys(weightCodecs) as CodecId[];
const models = new Map(codecs.map((codec) => [codec, writeQuantisedModel(source, join(folder, codec), codec)]));

describe("a checkpoint that is kept in a weight format", () => {
  it.each(codecs)("gives the numbers that were kept, within the step of the format: %s", (codec) => {
    const model = models.get(codec)!;
    for (const name of ["model.layers.0.self_attn.k_proj.weight", "model.layers.0.mlp.down_proj.weight"]) {
      const [rows, columns] = source.parameters.shape(name) as [number, number];
      expect(model.parameters.shape(name)).toEqual([rows, columns]);
      const kept = weightCodecs[codec].keep(source.parameters.rows(name, 0, rows), rows, columns);
      const read = model.parameters.quantised(name)!.rows(0, rows, "exact");
      read.forEach((x, i) => {
        const [output, input] = [Math.floor(i / columns), i % columns];
        const { number, zero, scale, global = 1 } = kept;
        const meant = (number(output, input) - (zero?.(output, input) ?? 0)) * scale(output, input) * global;
        expect(Math.abs(x - meant)).toBeLessThanOrEqual(1e-6 * Math.abs(meant));
      });
    }
  });
});

const projections = ["self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj", "self_attn.v_proj"];
const stores: readonly DType[] = ["bfloat16", "float16", "float32"];

describe("correct runs on such a checkpoint", () => {
  it.each(codecs)(
    "are never accused, however weights and operands are rounded: %s",
    { timeout: 120_000 },
    async (codec) => {
      const model = models.get(codec)!;
      const recipes = new Set<string>();
      for (let seed = 0; seed < 2; seed++) {
        const random = randomGenerator(100 * codecs.indexOf(codec) + seed + 1);
        const store = stores[seed % stores.length]!;
        const path = join(folder, `${codec}-${seed}.safetensors`);
        const run = runLab({
          model,
          store,
          path,
          steps: randomSteps(random, 200, [[9]]),
          ...(seed > 0 && { implement: (graph, held) => legalImplementation(graph, held, store, random) }),
        });
        const verdict = await briefVerdict(path, model.directory);
        expect(verdict.causes, JSON.stringify(run.implementation.description)).toEqual([]);
        expect(verdict.verdict, JSON.stringify(run.implementation.description)).toBe("clean");
        for (const id of Object.values((run.implementation.description.recipes ?? {}) as Record<string, string>))
          recipes.add(id);
      }
      expect([...recipes].some((id) => /weights-|operands-/.test(id))).toBe(true);
    },
  );
});

describe("a weight that is misread", () => {
  const cases = formatFaults.flatMap((fault) => fault.codecs.map((codec) => ({ fault, codec, id: fault.id })));
  it.each(cases)("is named, and nothing else: $id of $codec", { timeout: 60_000 }, async ({ fault, codec }) => {
    const model = models.get(codec)!;
    const store = codec === "gptq" ? "float16" : "bfloat16";
    const index = cases.findIndex((one) => one.fault === fault && one.codec === codec);
    const projection = projections[index % projections.length]!;
    const unit = `model.layers.0.${projection}`;
    const path = join(folder, `${fault.id}-${codec}.safetensors`);
    const steps = randomSteps(randomGenerator(index + 1), 200, [[9]]);
    runLab({ model, store, path, steps, injections: [misreadWeight(source, codec, `${unit}.weight`, fault, store)] });
    const verdict = await briefVerdict(path, model.directory);
    const found = verdict.causes.map(({ cause, units, transform }) => ({ cause, units, transform }));
    expect(found, JSON.stringify(verdict.findings)).toEqual([
      { cause: fault.expected[0], units: [unit], transform: fault.transform },
    ]);
  });

  it("is told from a plain weight that went through the format", { timeout: 60_000 }, async () => {
    const untied = writeTinyModel(join(folder, "untied"), {
      seed: 8,
      config: { ...config, tie_word_embeddings: false },
    });
    const model = writeQuantisedModel(untied, join(folder, "untied-fp8"), "fp8-rows");
    expect(model.parameters.quantised("lm_head.weight")).toBeUndefined();
    const { shape, values } = wholeParameter(model.parameters, "lm_head.weight");
    const narrow = storedAs(narrowedMatrix(values, shape[1]!, "e4m3", "row"), "bfloat16");
    const path = join(folder, "untied.safetensors");
    const steps = randomSteps(randomGenerator(4), 200, [[9]]);
    const parameters = new Map([["lm_head.weight", { shape, values: narrow }]]);
    runLab({ model, store: "bfloat16", path, steps, injections: [{ parameters }] });
    const verdict = await briefVerdict(path, model.directory);
    expect(verdict.causes.map(({ cause, units }) => ({ cause, units }))).toEqual([
      { cause: "weight-quantised", units: ["lm_head"] },
    ]);
  });
});
