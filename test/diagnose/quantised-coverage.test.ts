import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { randomSteps } from "../../src/lab/batch.js";
import { plainImplementation } from "../../src/lab/legal.js";
import { writeQuantisedModel } from "../../src/lab/quantised-model.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import { type CodecId, weightCodecs } from "../../src/lab/weight-codecs.js";
import { type Recipe, UnitRecipe } from "../../src/spec/recipe.js";
import { roleOf } from "../../src/spec/site.js";
import { decode, encode, floatFormat, unitInLastPlace } from "../../src/tensor/dtype.js";
import { SafetensorsFile, writeSafetensors } from "../../src/tensor/safetensors.js";
import { temporaryFolder } from "../lab/folder.js";
import { briefVerdict } from "./brief-verdict.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 1, vocab_size: 200, intermediate_size: 1536 };
const source = writeTinyModel(join(folder, "plain"), { seed: 6, config });
const unit = "model.layers.0.mlp.up_proj";

/** A run whose products round as the recipe of that id says. */
function record(codec: CodecId, id: string) {
  const model = writeQuantisedModel(source, join(folder, codec), codec);
  const path = join(folder, `${codec}.safetensors`);
  runLab({
    model,
    store: "bfloat16",
    path,
    steps: randomSteps(randomGenerator(2), 200, [[20]]),
    implement(graph) {
      const ops = new Map<string, Recipe>();
      for (const node of graph.nodes.values()) {
        const recipe =
          node.op.kind === "linear" && node.site.layer !== undefined && node.op.recipes!.find((one) => one.id === id);
        if (recipe) ops.set(roleOf(node), recipe);
      }
      expect(ops.size).toBe(7);
      return { ...plainImplementation(graph, "bfloat16"), recipe: new UnitRecipe("bfloat16", ops) };
    },
  });
  return { path, model };
}

/** The recording with one element of the unit so many ulps away. */
function spoilt(path: string, row: number, column: number, ulps: number): string {
  const file = new SafetensorsFile(path);
  const tensors = [...file.entries.values()].map((entry) => {
    const bytes = file.readBytes(entry);
    if (entry.name !== unit) return { ...entry, bytes };
    const values = decode(bytes, entry.dtype);
    const columns = entry.shape.at(-1)!;
    const own = values.subarray(row * columns, (row + 1) * columns);
    const size = Math.sqrt(own.reduce((sum, x) => sum + x * x, 0) / columns);
    own[column]! += ulps * unitInLastPlace(size, floatFormat("bfloat16")!);
    return { ...entry, bytes: encode(values, entry.dtype) };
  });
  file.close();
  const changed = path.replace(".safetensors", "-spoilt.safetensors");
  writeSafetensors(changed, tensors);
  return changed;
}

describe("products of quantised weights that a sample does not hold", () => {
  it.each([
    ["awq", "one-rounding", 10],
    ["nvfp4", "weights-unrounded", 10],
    // Ties of operands may go either way: so much less is certain of a sum whose bits are not given back.
    ["fp8-blocks", "operands-e4m3-scale-per-32-channels", 400],
  ] as const)("are summed in all their elements: %s, %s", { timeout: 60_000 }, async (codec, recipe, ulps) => {
    expect(Object.keys(weightCodecs)).toContain(codec);
    const { path, model } = record(codec, recipe);
    const clean = await diagnose({ target: path, model: model.directory, quick: true });
    expect(clean.verdict).toBe("clean");
    expect(clean.coverage.summed).toBeGreaterThan(20 * 1536);
    expect(clean.coverage.summed + clean.coverage.compared).toBeGreaterThanOrEqual(clean.coverage.of);
    const verdict = await briefVerdict(spoilt(path, 4, 1499, ulps), model.directory);
    expect(verdict.verdict).toBe("fault");
    expect(verdict.findings.map((finding) => finding.unit)).toEqual([unit]);
    expect(verdict.findings[0]!.extent.columns).toContain("1499");
  });
});
