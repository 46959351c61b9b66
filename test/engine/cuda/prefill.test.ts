import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { diagnoseCommand } from "../../../src/cli/diagnose.js";
import type { Cuda } from "../../../src/engine/cuda/cuda.js";
import { fusedPath, standardPath } from "../../../src/engine/device/paths.js";
import { loadWeights, type Weights } from "../../../src/engine/device/weights.js";
import { generate } from "../../../src/engine/serve/generation.js";
import { Recording } from "../../../src/engine/serve/recording.js";
import { type LabModel, truncateModel } from "../../../src/lab/model.js";
import { printedBy } from "../../cli/printed.js";
import { describeCuda } from "../backends.js";
import { TestPages } from "../batches.js";
import { randomNumbers } from "../gpu.js";
import { modelDirectory } from "../ishmael.js";

/** More rows than the kernels for few of them take, and not a whole number of tiles. */
const tokens = Array.from({ length: 70 }, (_, i) => (i * 37 + 5) % 4000);
const options = { pageCount: 12, pageSize: 16, maxRows: 80, maxSequences: 2 } as const;

describeCuda("prefill on tensor cores", (open) => {
  const folder = mkdtempSync(join(tmpdir(), "faultline-prefill-"));
  let cuda: Cuda;
  let model: LabModel;
  let weights: Weights;
  beforeAll(async () => {
    cuda = await open();
    model = truncateModel(modelDirectory, 2, join(folder, "model"));
    weights = await loadWeights(cuda, model.config, model.parameters);
  });
  afterAll(() => {
    weights.destroy();
    cuda.destroy();
    model.parameters.close();
    rmSync(folder, { recursive: true });
    process.exitCode = undefined;
  });

  describe.each([
    ["standard", standardPath, "float16"],
    ["fused", fusedPath, "bfloat16"],
  ] as const)("%s", (name, make, cacheDtype) => {
    test("is diagnosed clean, and the report says to what it rounds", async () => {
      const path = make(cuda, model.config, weights, { ...options, cacheDtype });
      const target = join(folder, name);
      const runtime = { name: `faultline ${name}`, device: cuda.name, dtype: "float32" };
      const recorder = new Recording(target, { model: model.json, runtime });
      await generate(path, [{ tokenIds: tokens, maxTokens: 1 }], { chunk: tokens.length, recorder });
      path.dispose();
      const args = [target, "--model", model.directory, "--json"];
      const verdict = JSON.parse(await printedBy(() => diagnoseCommand().parseAsync(args, { from: "user" })));
      expect(verdict.verdict, verdict.summary).toBe("clean");
      const recipes = new Map<string, string>(
        verdict.recipes.map(({ unit, recipe }: { unit: string; recipe: string }) => [unit, recipe]),
      );
      const recipeOf = (value: string) => recipes.get(`model.layers.*.${value}`);
      expect(recipeOf("self_attn.o_proj.input")).toBe(`operands-${cacheDtype}-tiles-64`);
      for (const product of ["self_attn.q_proj", "self_attn.v_proj"]) {
        expect(recipeOf(product), product).toBe("operands-bfloat16");
      }
    });

    test("a capture changes nothing, though without one some values are left in 16 bits alone", async () => {
      const runs: Float32Array[] = [];
      for (const captured of [false, true]) {
        const path = make(cuda, model.config, weights, { ...options, cacheDtype });
        const pages = new TestPages(12, 16, randomNumbers(1));
        const capture = { wants: () => true, value: () => undefined };
        const batch = pages.batch([{ sequence: pages.sequence(0), tokens }]);
        const { logits } = await path.forward(batch, { logits: true, ...(captured && { capture }) });
        runs.push(logits!);
        path.dispose();
      }
      expect([...runs[1]!]).toEqual([...runs[0]!]);
    });
  });
});
