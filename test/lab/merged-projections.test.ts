import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { randomSteps } from "../../src/lab/batch.js";
import type { LabModel } from "../../src/lab/model.js";
import { writeQuantisedModel } from "../../src/lab/quantised-model.js";
import { randomGenerator } from "../../src/lab/random.js";
import { runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import { weightCodecs } from "../../src/lab/weight-codecs.js";
import type { GraphNode } from "../../src/spec/graph.js";
import { nearestE4m3, nearestFloat16 } from "../spec/hand-rounding.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 2, vocab_size: 120, intermediate_size: 160 };
const plain = writeTinyModel(join(folder, "plain"), { seed: 5, config });
const model = writeQuantisedModel(plain, join(folder, "fp8-tensor"), "fp8-tensor");

/** A module's numbers [outputs, inputs], its scale and its operand's, as the checkpoint has them. */
function stored(module: string) {
  const [outputs, inputs] = plain.parameters.shape(`${module}.weight`) as [number, number];
  const values = plain.parameters.rows(`${module}.weight`, 0, outputs);
  const { number, scale, tensors } = weightCodecs["fp8-tensor"].keep(values, outputs, inputs);
  const [, , inputScale] = tensors;
  return {
    outputs,
    inputs,
    number,
    scale: scale(0, 0),
    inputScale: new Float32Array(inputScale!.bytes.slice().buffer)[0]!,
  };
}

const groups = [
  ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
  ["mlp.gate_proj", "mlp.up_proj"],
];

/** Projections whose scale is not the largest of those they are merged with, in some layer. */
const changed = (field: "scale" | "inputScale") =>
  groups.flatMap((group) =>
    group.filter((name) =>
      [0, 1].some((layer) => {
        const of = (one: string) => stored(`model.layers.${layer}.${one}`)[field];
        return group.some((other) => of(other) > of(name));
      }),
    ),
  );

interface Merging {
  /** Whether the scale that float16 numbers are multiplied by is rounded to float16 itself. */
  readonly narrow: boolean;
  /** Whether the scales are the largest of the merged ones, or the module's own. */
  readonly merged: boolean;
}

/** vLLM's merged projections, written out: weights to float16, to fp8 by the largest scale; operands to fp8 by the largest of theirs. */
function products({ graph }: LabModel, { narrow, merged }: Merging): GraphNode[] {
  return [0, 1].flatMap((layer) =>
    groups.flatMap((group) => {
      const all = group.map((name) => stored(`model.layers.${layer}.${name}`));
      return group.map((name, i): GraphNode => {
        const own = all[i]!;
        const scale = merged ? Math.max(...all.map((one) => one.scale)) : own.scale;
        const inputScale = merged ? Math.max(...all.map((one) => one.inputScale)) : own.inputScale;
        const factor = narrow ? nearestFloat16(own.scale) : own.scale;
        const weight = (output: number, input: number) => {
          const number = own.number(output, input);
          return merged ? nearestE4m3(Math.fround(nearestFloat16(number * factor) * Math.fround(1 / scale))) : number;
        };
        const node = graph.node(`model.layers.${layer}.${name}`);
        return {
          ...node,
          op: {
            ...node.op,
            evaluate(context, rows, columns) {
              const x = context
                .input(0, rows)
                .value.map((v) => nearestE4m3(Math.fround(v * Math.fround(1 / inputScale))));
              const value = new Float64Array(rows.length * columns.length);
              columns.forEach((column, c) => {
                const w = Float64Array.from({ length: own.inputs }, (_, k) => weight(column, k));
                for (let r = 0; r < rows.length; r++) {
                  let sum = 0;
                  for (let k = 0; k < own.inputs; k++) sum = Math.fround(sum + w[k]! * x[r * own.inputs + k]!);
                  value[r * columns.length + c] = Math.fround(Math.fround(sum * inputScale) * scale);
                }
              });
              return { value, variance: new Float64Array(0) };
            },
          },
        };
      });
    }),
  );
}

describe("projections in fp8 with one scale each", () => {
  it.each([
    ["merged as vLLM merges them", { merged: true, narrow: false }, 1],
    ["merged on a GPU, where scales are rounded to float16", { merged: true, narrow: true }, 1],
    ["merged over 2 ranks", { merged: true, narrow: false }, 2],
    ["each with scales of its own", { merged: false, narrow: false }, 1],
    ["each with scales of its own over 2 ranks", { merged: false, narrow: false }, 2],
  ] as const)("%s are clean, and told", { timeout: 60_000 }, async (_, merging, ranks) => {
    const path = join(folder, `run-${merging.merged}-${merging.narrow}-${ranks}`);
    const steps = randomSteps(randomGenerator(ranks), 120, [[9]]);
    runLab({ model, store: "bfloat16", path, ranks, steps, injections: [{ nodes: products(model, merging) }] });
    const verdict = await diagnose({ target: path, model: model.directory, quick: true });
    expect([...verdict.causes, ...verdict.findings]).toEqual([]);
    expect(verdict.verdict).toBe("clean");
    for (const unit of groups.flat()) {
      const told = verdict.recipes.find((found) => found.unit === `model.layers.*.${unit}`)!;
      expect(told.matched, unit).toBe(told.of);
      const weight = merging.merged && changed("scale").includes(unit);
      const operand = merging.merged && (weight || changed("inputScale").includes(unit));
      const of = operand ? "-the-largest-of-merged-projections" : "";
      expect(told.recipe.replace("-narrow", ""), unit).toBe(`operands-e4m3-fixed-scale${of}${weight ? "-merged" : ""}`);
    }
  });

  it("of which most have other scales than the largest", () => {
    expect(changed("scale").length).toBeGreaterThan(1);
    expect(changed("inputScale").length).toBeGreaterThan(1);
  });
});
