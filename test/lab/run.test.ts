import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { CaptureObservations } from "../../src/capture/observations.js";
import { openCapture } from "../../src/capture/reader.js";
import { lengthsFor, promptSteps, randomSteps } from "../../src/lab/batch.js";
import { findFault } from "../../src/lab/catalogue.js";
import { truncateModel } from "../../src/lab/model.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import { overlayParameters } from "../../src/tensor/changed-parameters.js";
import { decode } from "../../src/tensor/dtype.js";
import { SafetensorsFile } from "../../src/tensor/safetensors.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
const model = writeTinyModel(join(folder, "qwen3"), { seed: 2 });
const ishmael = "models/ishmael-7m";

describe("a recorded run", () => {
  it("has the names, shapes and dtypes of Hugging Face's recording of the same model", { timeout: 60_000 }, () => {
    const golden = new SafetensorsFile("test/golden/hf_prefill_bf16_cpu.safetensors");
    const ids = Array.from(decode(golden.readBytes(golden.entry("input_ids")), "int32"));
    const short = truncateModel(ishmael, 2, join(folder, "short"));
    const path = join(folder, "short.safetensors");
    runLab({ model: short, steps: promptSteps([ids]), store: "bfloat16", path });
    const own = new SafetensorsFile(path);
    const expected = [...golden.entries.keys()].filter(
      (name) => !/layers\.(\d+)/.test(name) || /layers\.[01](\.|$)/.test(name),
    );
    expect([...own.entries.keys()].sort()).toEqual(expected.sort());
    for (const name of expected) {
      expect(own.entry(name).shape, name).toEqual(golden.entry(name).shape);
      expect(own.entry(name).dtype, name).toBe(golden.entry(name).dtype);
    }
    const [mine, theirs] = [own, golden].map((file) =>
      decode(file.readBytes(file.entry("model.layers.1")), "bfloat16"),
    );
    const scale = Math.sqrt(theirs!.reduce((sum, x) => sum + x * x, 0));
    const distance = Math.sqrt(theirs!.reduce((sum, x, i) => sum + (x - mine![i]!) ** 2, 0));
    expect(distance / scale).toBeLessThan(0.02);
    for (const file of [own, golden]) file.close();
  });

  it("of several steps is a capture whose rows continue their sequences", () => {
    const path = join(folder, "steps");
    const steps = randomSteps(randomGenerator(4), 600, lengthsFor("decode-batch"));
    const run = runLab({ model, steps, store: "float16", path, layers: [1], lastTokens: true });
    expect([...run.recorded].some((name) => name.includes("layers.0"))).toBe(false);
    const capture = openCapture(path);
    const observations = new CaptureObservations(capture, model.graph);
    expect(capture.steps.map(({ positions }) => positions?.at(-1))).toEqual([8, 9, 10]);
    expect(observations.outputRows("lm_head").length).toBe(9);
    expect(observations.outputRows("model.layers.1.self_attn.q_rope").length).toBe(28 + 3 + 3);
    expect(observations.dtype("model.layers.1")).toBe("float16");
    expect(capture.samples.at(-1)?.token_ids).toEqual(run.sampled);
    capture.close();
  });

  it("is the same for the same draws", () => {
    const bytes = ["a", "b"].map((name) => {
      const path = join(folder, `${name}.safetensors`);
      runLab({ model, steps: randomSteps(randomGenerator(8), 600, [[9]]), store: "bfloat16", path });
      return readFileSync(path);
    });
    expect(bytes[0]!.equals(bytes[1]!)).toBe(true);
  });

  it("never replaces a file", () => {
    const path = join(folder, "once.safetensors");
    const options = { model, steps: randomSteps(randomGenerator(8), 600, [[3]]), store: "bfloat16" as const, path };
    runLab(options);
    expect(() => runLab(options)).toThrow(/cannot be created/);
  });

  it("claims another dtype than its bytes have when that is the fault", () => {
    const path = join(folder, "bits.safetensors");
    const fault = findFault("I70-logits-bits");
    const steps = randomSteps(randomGenerator(8), 600, [[3]]);
    const run = runLab({ model, steps, store: "bfloat16", path, faults: [{ fault, layers: [], values: {} }] });
    const file = new SafetensorsFile(path);
    expect(file.entry("lm_head").dtype).toBe("float16");
    expect(run.bad).toEqual(new Set(["lm_head"]));
    file.close();
  });
});

describe("models for the lab", () => {
  it("keep the weights of the layers they keep", () => {
    const short = truncateModel(ishmael, 3, join(folder, "three"));
    expect(short.config.layerCount).toBe(3);
    expect(short.config.hiddenSize).toBe(128);
    expect(() => truncateModel(ishmael, 99, join(folder, "many"))).toThrow(/layers: expected 1 to 28/);
    expect(() => truncateModel(ishmael, 3, join(folder, "three"))).toThrow(/does not exist yet/);
  });

  it("differ by seed and have unequal norm weights", () => {
    const other = writeTinyModel(join(folder, "other"), { seed: 3 });
    const norm = "model.layers.0.input_layernorm.weight";
    expect(other.parameters.rows(norm, 0, 1)).not.toEqual(model.parameters.rows(norm, 0, 1));
    expect(new Set(model.parameters.rows(norm, 0, 1)).size).toBeGreaterThan(20);
  });

  it("show changed parameters over those of the checkpoint", () => {
    const values = Float64Array.from({ length: 6 }, (_, i) => i);
    const reader = overlayParameters(model.parameters, new Map([["extra", { shape: [3, 2], values }]]));
    expect(Array.from(reader.rows("extra", 1, 2))).toEqual([2, 3, 4, 5]);
    expect(reader.shape("model.norm.weight")).toEqual([64]);
    expect([...reader.names()]).toContain("extra");
  });
});
