import { describe, expect, it } from "vitest";
import type { ExpertWeights } from "../../src/spec/expert-weights.js";
import { chooseExperts } from "../../src/spec/ops/choose-experts.js";
import { clampedSwiglu } from "../../src/spec/ops/clamped-swiglu.js";
import { combineExperts } from "../../src/spec/ops/combine-experts.js";
import { expertLinear } from "../../src/spec/ops/expert-linear.js";
import type { Routing } from "../../src/spec/ops/routing.js";
import { routingWeights } from "../../src/spec/ops/routing-weights.js";
import { scaleRows } from "../../src/spec/ops/scale-rows.js";
import type { ParameterReader } from "../../src/tensor/checkpoint.js";
import { evaluateOp, evaluatorOf, normal, parametersOf } from "./single-op.js";

const routing: Routing = { experts: 4, topK: 2, scoring: "softmax", renormalised: false, scale: 1 };
const bfloat16 = { store: "bfloat16", compute: "float32" } as const;

function close(values: ArrayLike<number>, expected: ArrayLike<number>): void {
  expect(values.length).toBe(expected.length);
  for (let i = 0; i < values.length; i++) expect(values[i]).toBeCloseTo(expected[i]!, 12);
}

describe("the choice of experts", () => {
  const choose = (change: Partial<Routing>, logits: number[], bias?: number[]) => {
    const all = { ...routing, ...change, ...(bias && { bias: "bias" }) };
    const parameters = parametersOf(bias ? { bias: { shape: [bias.length], values: bias } } : {});
    const inputs = [{ columns: all.experts, values: logits }];
    return [...evaluateOp({ op: chooseExperts(all), inputs, columns: all.topK, parameters }).value];
  };

  it("is the largest logits, best first and the lowest index on ties", () => {
    expect(choose({}, [1, 3, 2, 0])).toEqual([1, 2]);
    expect(choose({}, [1, 1, 1, 1])).toEqual([0, 1]);
  });

  it("counts a bias in the choice alone", () => {
    expect(choose({ scoring: "sigmoid" }, [0, 1, 2, 3], [2, 0, 0, 0])).toEqual([0, 3]);
    expect(choose({ scoring: "sigmoid", biasTimes: 0 }, [0, 1, 2, 3], [2, 0, 0, 0])).toEqual([3, 2]);
  });

  it("looks into the best groups only, by the sum of their two best", () => {
    const logits = [3, -9, -9, -9, 2, 2, 1, 1];
    const groups = { count: 4, kept: 1 };
    expect(choose({ experts: 8 }, logits)).toEqual([0, 4]);
    expect(choose({ experts: 8, groups }, logits)).toEqual([4, 5]);
  });

  /** The indices and their variances where `recorded` is what the run chose. */
  const judged = (logits: number[], recorded?: number[]) => {
    const evaluator = evaluatorOf({
      op: chooseExperts(routing),
      inputs: [{ columns: 4, values: logits }],
      columns: 2,
      precision: bfloat16,
      noise: true,
    });
    const { has, row } = evaluator.observations;
    Object.assign(evaluator.observations, {
      has: (name: string) => has(name) || (name === "out" && recorded !== undefined),
      row: (name: string, r: number, consumer: string) =>
        name === "out"
          ? { value: Float64Array.from(recorded!), dtype: "int64", exact: true }
          : row.call(evaluator.observations, name, r, consumer),
    });
    const { value, variance } = evaluator.evaluate("out", Int32Array.of(0));
    return { value: [...value], open: [...variance].map((v) => v === Infinity) };
  };

  it("is right either way within rounding of a tie, in any order, as it was recorded", () => {
    const tied = [1, 1.0078125, 2, 0];
    expect(judged(tied, [2, 0]).value).toEqual([2, 0]);
    expect(judged(tied, [0, 2]).value).toEqual([0, 2]);
    expect(judged(tied, [1, 2]).value).toEqual([1, 2]);
    expect(judged(tied, [2, 3]).value).toEqual([2, 1]);
    expect(judged(tied, [2, 2]).value).toEqual([2, 1]);
    expect(judged(tied, [2, 77]).value).toEqual([2, 1]);
    expect(judged([1, 1.5, 2, 0], [2, 0]).value).toEqual([2, 1]);
  });

  it("is open where it was not recorded and rounding may turn it", () => {
    expect(judged([1, 1.0078125, 2, 0]).open).toEqual([true, true]);
    expect(judged([1, 1.5, 2, 0]).open).toEqual([false, false]);
  });
});

describe("the weights of chosen experts", () => {
  const logits = [0, Math.log(2), Math.log(4), Math.log(3)];
  const weigh = (change: Partial<Routing>, chosen = [2, 1]) =>
    evaluateOp({
      op: routingWeights({ ...routing, ...change }),
      inputs: [
        { columns: 4, values: logits },
        { columns: 2, values: chosen },
      ],
      columns: 2,
    }).value;

  it("are shares of a softmax over all experts, or over the chosen ones", () => {
    close(weigh({}), [0.4, 0.2]);
    close(weigh({ renormalised: true }), [2 / 3, 1 / 3]);
    close(weigh({ scoring: "softmax-of-chosen" }), [2 / 3, 1 / 3]);
    close(weigh({}, [1, 2]), [0.2, 0.4]);
  });

  it("are sigmoids, with or without their sum, times a scale", () => {
    close(weigh({ scoring: "sigmoid" }), [4 / 5, 2 / 3]);
    close(weigh({ scoring: "sigmoid", renormalised: true, scale: 2.5 }), [(2.5 * 6) / 11, (2.5 * 5) / 11]);
  });
});

describe("the product of each chosen expert", () => {
  const experts = 3;
  const [out, inputs] = [4, 2];
  const w = normal(experts * out * inputs, 5);
  const element = (e: number, o: number, i: number) => w[(e * out + o) * inputs + i]!;
  const x = [1, -2, 3, 0.5];
  const chosen = [2, 0, 2, 1];
  const run = (weights: ExpertWeights, parameters: ParameterReader, width: number, columns?: number[]) =>
    evaluateOp(
      {
        op: expertLinear({ ...weights, topK: 2, width, ownInputs: false }),
        inputs: [
          { columns: inputs, values: x },
          { columns: 2, values: chosen },
        ],
        columns: 2 * width,
        parameters,
      },
      [0, 1],
      columns,
    ).value;
  const expected = (rows: number[]) =>
    [0, 1].flatMap((r) =>
      [0, 1].flatMap((slot) =>
        rows.map((o) => {
          const e = chosen[2 * r + slot]!;
          return x[2 * r]! * element(e, o, 0) + x[2 * r + 1]! * element(e, o, 1) + 10 * e + o;
        }),
      ),
    );
  const biases = Float64Array.from({ length: experts * out }, (_, i) => 10 * Math.floor(i / out) + (i % out));
  const bias = { shape: [experts, out], values: biases };
  const fused = { shape: [experts, out * inputs], values: w };

  it("is the same from one parameter per expert and from one of them all", () => {
    const names = [0, 1, 2].map((e) => `experts.${e}`);
    const modules = Object.fromEntries(
      names.flatMap((name, e) => [
        [`${name}.weight`, { shape: [out, inputs], values: w.slice(e * out * inputs, (e + 1) * out * inputs) }],
        [`${name}.bias`, { shape: [out], values: biases.slice(e * out, (e + 1) * out) }],
      ]),
    );
    const weights = { weight: names.map((n) => `${n}.weight`), bias: names.map((n) => `${n}.bias`) };
    close(run(weights, parametersOf(modules), out), expected([0, 1, 2, 3]));
    close(run({ weight: "w", bias: "b" }, parametersOf({ w: fused, b: bias }), out), expected([0, 1, 2, 3]));
  });

  it("takes a half or every second row of a matrix that holds gate and up", () => {
    const parameters = parametersOf({ w: fused, b: bias });
    close(run({ weight: "w", bias: "b", first: 2 }, parameters, 2), expected([2, 3]));
    close(run({ weight: "w", bias: "b", first: 1, step: 2 }, parameters, 2), expected([1, 3]));
  });

  it("reads matrices [inputs, outputs]", () => {
    const turned = Float64Array.from(w, (_, k) => {
      const [e, rest] = [Math.floor(k / (out * inputs)), k % (out * inputs)];
      return element(e, rest % out, Math.floor(rest / out));
    });
    const transposed: ParameterReader = {
      ...parametersOf({ w: { shape: [experts, out * inputs], values: turned }, b: bias }),
      shape: () => [experts, inputs, out],
    };
    const weights = { weight: "w", bias: "b", transposed: true, first: 1, step: 2 };
    close(run(weights, transposed, 2), expected([1, 3]));
  });

  it("gives the columns asked for, in their order, and reads no expert that no row of them chose", () => {
    const read = new Set<string>();
    const reader: ParameterReader = {
      names: () => [],
      shape: () => [out, inputs],
      rows(name, first, count) {
        read.add(name);
        const e = Number(name);
        return w.slice((e * out + first) * inputs, (e * out + first + count) * inputs);
      },
    };
    const all = run({ weight: ["0", "1", "2"] }, reader, out);
    expect(read).toEqual(new Set(["0", "1", "2"]));
    read.clear();
    const some = run({ weight: ["0", "1", "2"] }, reader, out, [3, 0]);
    close(some, [all[3]!, all[0]!, all[2 * out + 3]!, all[2 * out]!]);
    expect(read).toEqual(new Set(["2"]));
  });

  it("keeps each slot's own input apart", () => {
    const op = expertLinear({ weight: "w", topK: 2, width: out, ownInputs: true });
    const inputsOf = [
      { columns: 4, values: [1, 0, 0, 1] },
      { columns: 2, values: [1, 2] },
    ];
    const values = evaluateOp({ op, inputs: inputsOf, columns: 8, parameters: parametersOf({ w: fused }) }).value;
    close(values, [0, 1, 2, 3].map((o) => element(1, o, 0)).concat([0, 1, 2, 3].map((o) => element(2, o, 1))));
  });
});

describe("the sum of experts", () => {
  const inputs = [
    { columns: 4, values: [1, 2, 3, 4] },
    { columns: 2, values: [0.75, 0.25] },
    { columns: 2, values: [1, 0] },
  ];
  it("weights each slot's output", () => {
    const op = combineExperts({ topK: 2 });
    close(evaluateOp({ op, inputs, columns: 2 }).value, [0.75 * 1 + 0.25 * 3, 0.75 * 2 + 0.25 * 4]);
    close(evaluateOp({ op, inputs, columns: 2 }, [0], [1]).value, [0.75 * 2 + 0.25 * 4]);
  });
});

describe("gated branches", () => {
  it("clamp gate and up and shift up by one", () => {
    const op = clampedSwiglu({ alpha: 1.702, limit: 7 });
    const run = (gate: number, up: number) =>
      evaluateOp({
        op,
        inputs: [
          { columns: 1, values: [gate] },
          { columns: 1, values: [up] },
        ],
        columns: 1,
      }).value[0]!;
    const glu = (g: number) => g / (1 + Math.exp(-1.702 * g));
    expect(run(0.5, 2)).toBeCloseTo(3 * glu(0.5), 12);
    expect(run(90, 2)).toBeCloseTo(3 * glu(7), 12);
    expect(run(-90, -90)).toBeCloseTo(-6 * glu(-90), 12);
  });

  it("scale whole rows", () => {
    const inputs = [
      { columns: 2, values: [1, 2, 3, 4] },
      { columns: 1, values: [10, -1] },
    ];
    close(evaluateOp({ op: scaleRows(), inputs, columns: 2 }).value, [10, 20, -3, -4]);
  });
});
