import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { patchedPath } from "../../src/engine/device/paths.js";
import { loadWeights, type Weights } from "../../src/engine/device/weights.js";
import { type Patch, patchModel } from "../../src/engine/program/patch.js";
import { ReferencePath } from "../../src/engine/reference/reference-path.js";
import type { Path } from "../../src/engine/run/path.js";
import { generate } from "../../src/engine/serve/generation.js";
import { liveFaults } from "../../src/lab/live/faults.js";
import { parseSettings } from "../../src/lab/live/parse-settings.js";
import { biased } from "../../src/lab/live/patches.js";
import { StepValues } from "../../src/lab/live/step-values.js";
import { ofEveryCache, type TestBackend } from "./backends.js";
import { tinyBytes, tinyConfig, tinyParameters, tinyPrompt } from "./tiny-model.js";

const parameters = tinyParameters();
const pages = { pageCount: 7, pageSize: 4 } as const;
let gpu: TestBackend;
let weights: Weights;

const set = (text: string): readonly Patch[] => parseSettings(text, tinyConfig, [])[0]!.patches;

/** Small biases of products that have none, as a patch. */
const bias: Patch = {
  title: "biases",
  rewrite: (model) =>
    biased(
      model,
      ["q", "k", "v"].map((letter) => `model.layers.1.self_attn.${letter}_proj`),
      (_, columns) => Float64Array.from({ length: columns }, (_, i) => Math.sin(i)),
    ),
};

/** Every way to change a running path: kernels, the host among them, memory of other layers, weights. */
const cases: readonly (readonly [string, readonly Patch[]])[] = [
  [
    "factors, biases and a dropped branch",
    [...set("layers.*.k_scale=0.5;layers.0.v_scale=2;layers.1.attention_scale=0.3;lm_head.scale=3"), bias],
  ],
  ["ops of the spec on the host", set("layers.0.attention=reference;lm_head=reference;layers.1.mlp=off")],
  ["a layer that the stream passes by", set("layers.0=off;fusions.rotary=off")],
  [
    "faults that no kernel means",
    [
      ...liveFaults("I63-residual-doubled@1"),
      ...liveFaults("C5-embedding-scaled"),
      ...liveFaults("I11-weight-tile-zero@0"),
    ],
  ],
];

describe.each(ofEveryCache)("%s", (_, open) => {
  beforeAll(async () => {
    gpu = await open();
    weights = await loadWeights(gpu, tinyConfig, tinyBytes(parameters));
  });
  afterAll(() => {
    weights.destroy();
    gpu.destroy();
  });

  describe.each(["standard", "fused"] as const)("patches of the %s path", { timeout: 400_000 }, (name) => {
    it.each(name === "fused" ? cases : cases.slice(0, 2))(
      "make of every value what they make of it on the reference path: %s",
      async (_, patches) => {
        const model = patchModel(tinyConfig, parameters, patches);
        const { graph, changed } = model;
        const limits = { maxRows: 32, maxSequences: 4, cacheDtype: "float32" } as const;
        const path = patchedPath(name, gpu, model, weights, { ...pages, ...limits });
        const reference = new ReferencePath({ config: tinyConfig, parameters, graph, changed, ...pages });
        const [expected, found, plain] = [
          await run(reference),
          await run(path),
          await run(new ReferencePath({ config: tinyConfig, parameters, ...pages })),
        ];
        path.dispose();
        expect(found.tokenIds).toEqual(expected.tokenIds);
        let compared = 0;
        for (const node of graph.nodes.keys()) {
          const [a, b] = [expected.values.get(node), found.values.get(node)];
          if (!a || !b) continue;
          compared++;
          const largest = Math.max(...a.map(Math.abs));
          const apart = Math.max(...a.map((x, i) => Math.abs(x - b[i]!)));
          expect(apart, node).toBeLessThan(2e-5 * largest + 1e-12);
        }
        expect(compared).toBeGreaterThan(20);
        expect(expected.values.get("lm_head")).not.toEqual(plain.values.get("lm_head"));

        async function run(on: Path) {
          const values = new StepValues(graph);
          const request = { tokenIds: tinyPrompt(2, 3), maxTokens: 3 };
          const [generated] = await generate(on, [request], { recorder: values, recordedSteps: 1 });
          return { tokenIds: generated!.tokenIds, values };
        }
      },
    );
  });
});
