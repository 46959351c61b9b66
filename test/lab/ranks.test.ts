import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { randomSteps } from "../../src/lab/batch.js";
import { legalImplementation } from "../../src/lab/legal.js";
import { writeQuantisedModel } from "../../src/lab/quantised-model.js";
import { randomGenerator } from "../../src/lab/random.js";
import { overRanks } from "../../src/lab/ranks.js";
import { runLab } from "../../src/lab/run.js";
import { writeTinyModel } from "../../src/lab/tiny-model.js";
import type { GraphNode } from "../../src/spec/graph.js";
import { roundTo } from "../../src/tensor/dtype.js";
import { temporaryFolder } from "./folder.js";

const folder = temporaryFolder();
const config = { num_hidden_layers: 1, vocab_size: 120, intermediate_size: 192 };
const plain = writeTinyModel(join(folder, "plain"), { seed: 3, config });
const models = {
  plain,
  "packed-int4": writeQuantisedModel(plain, join(folder, "packed-int4"), "packed-int4"),
  "fp8-rows": writeQuantisedModel(plain, join(folder, "fp8-rows"), "fp8-rows"),
};

describe("a bias that every rank adds to its stored term", () => {
  const biased = writeTinyModel(join(folder, "biased"), {
    family: "llama",
    seed: 3,
    config: { num_hidden_layers: 2, vocab_size: 120, intermediate_size: 96, attention_bias: true },
  });
  it.each([3])(
    "is named, and the first rank's right term is not accused: %d ranks",
    { timeout: 60_000 },
    async (ranks) => {
      const graph = overRanks(biased.graph, biased.config, ranks);
      const sums = graph.all("output", "attention");
      const terms = sums.flatMap(({ name, inputs }): GraphNode[] => {
        const bias = biased.parameters.rows(`${name}.bias`, 0, 1);
        return inputs.map((term) => {
          const node = graph.node(term);
          const evaluate: typeof node.op.evaluate = (context, rows, columns) => {
            const { value, variance } = node.op.evaluate(context, rows, columns);
            const own = (i: number) => bias[columns[i % columns.length]!]!;
            return { variance, value: value.map((x, i) => roundTo(x, "bfloat16") + own(i)) };
          };
          return { ...node, op: { ...node.op, evaluate } };
        });
      });
      const nodes = sums.map((node): GraphNode => {
        const evaluate: typeof node.op.evaluate = (context, rows, columns) => {
          const all = node.inputs.map((_, rank) => context.input(rank, rows, columns).value);
          const value = all[0]!.map((_, i) => all.reduce((so, term) => Math.fround(so + term[i]!), 0));
          return { value, variance: new Float64Array(0) };
        };
        return { ...node, op: { ...node.op, evaluate } };
      });
      const path = join(folder, `biased-${ranks}`);
      const steps = randomSteps(randomGenerator(ranks), 120, [[9]]);
      runLab({ model: biased, store: "bfloat16", path, ranks, steps, injections: [{ nodes: [...terms, ...nodes] }] });
      const { causes } = await diagnose({ target: path, model: biased.directory, quick: true });
      const wrong = terms.map(({ name }) => name).filter((name) => !name.endsWith(".0"));
      expect(causes.map(({ cause, units }) => [cause, [...units].sort()])).toEqual([["bias-per-rank", wrong.sort()]]);
    },
  );
});

describe("a correct run over ranks", () => {
  it.each([
    ["plain", 2],
    ["packed-int4", 2],
    ["fp8-rows", 6],
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
