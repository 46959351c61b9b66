import { describe, expect, it } from "vitest";
import { indices } from "../../src/spec/op.js";
import { activation } from "../../src/spec/ops/activation.js";
import { rmsNorm } from "../../src/spec/ops/rmsnorm.js";
import { rope } from "../../src/spec/ops/rope.js";
import { scale } from "../../src/spec/ops/scale.js";
import { softCap } from "../../src/spec/ops/soft-cap.js";
import { UnitRecipe } from "../../src/spec/recipe.js";
import { roundTo } from "../../src/tensor/dtype.js";
import { evaluateOp, evaluatorOf, normal, parametersOf } from "./single-op.js";

const x = { columns: 16, values: normal(64, 3, 4).map((value) => roundTo(value, "bfloat16")) };
const bf16 = (value: number) => roundTo(value, "bfloat16");

/** The op's values as they are stored in bf16 under one of its recipes. */
function stored(op: ReturnType<typeof scale>, id: string): Float64Array {
  const recipe = op.recipes!.find((one) => one.id === id)!;
  const evaluator = evaluatorOf({
    op,
    inputs: [x],
    columns: 16,
    recipe: new UnitRecipe("bfloat16", new Map([["out", recipe]])),
    precision: { store: "bfloat16", compute: "float32" },
  });
  return evaluator.read("out", indices(4), "").value;
}

describe("scale", () => {
  it("multiplies, by the factor itself or by the factor rounded", () => {
    const factor = Math.sqrt(72);
    const op = scale(factor);
    expect(evaluateOp({ op, inputs: [x], columns: 16 }).value).toEqual(x.values.map((value) => factor * value));
    const rounded = x.values.map((value) => bf16(bf16(factor) * value));
    expect(stored(op, "rounded-factor")).toEqual(rounded);
    expect(stored(op, "float32-factor")).toEqual(x.values.map((value) => bf16(Math.fround(factor) * value)));
    expect(stored(op, "float32-factor")).not.toEqual(rounded);
  });
});

describe("soft cap", () => {
  it("is cap · tanh(x / cap), rounded once or at each step", () => {
    const op = softCap(3);
    const once = x.values.map((value) => bf16(3 * Math.tanh(value / 3)));
    const steps = x.values.map((value) => bf16(3 * bf16(Math.tanh(bf16(value / 3)))));
    expect(stored(op, "float32")).toEqual(once);
    expect(stored(op, "rounded-steps")).toEqual(steps);
    expect(once).not.toEqual(steps);
  });
});

describe("norms of families", () => {
  const parameters = parametersOf({ w: { shape: [16], values: indices(16) } });
  const run = (attributes: object) =>
    evaluateOp({
      op: rmsNorm({ weight: "w", epsilon: 0, width: 16, ...attributes }),
      inputs: [x],
      columns: 16,
      parameters,
    }).value;

  it("add their offset to the weight", () => {
    const plain = run({});
    const offset = run({ weightOffset: 1 });
    for (let c = 1; c < 16; c++) expect(offset[c]! / plain[c]!).toBeCloseTo((c + 1) / c, 12);
  });

  it("normalise heads by themselves with a weight over all of them", () => {
    const whole = run({ width: 8, weightWidth: 16 });
    for (let head = 0; head < 2; head++) {
      const own = whole.subarray(8 * head, 8 * head + 8);
      const squares = own.reduce((sum, value, i) => sum + (8 * head + i === 0 ? 0 : (value / (8 * head + i)) ** 2), 0);
      const first = head === 0 ? x.values[0]! ** 2 / (x.values.slice(0, 8).reduce((s, v) => s + v * v, 0) / 8) : 0;
      expect(squares + first).toBeCloseTo(8, 9);
    }
  });
});

describe("RoPE with frequencies for long sequences", () => {
  const base = { headDim: 4, rotaryDim: 4, attentionFactor: 1, pairing: "half" as const };
  const short = Float64Array.of(1, 0.1);
  const long = Float64Array.of(0.5, 0.01);
  const rows = { columns: 4, values: normal(24, 5) };
  const turned = (attributes: object, steps: number[]) =>
    evaluateOp({ op: rope({ ...base, inverseFrequencies: short, ...attributes }), inputs: [rows], columns: 4, steps })
      .value;

  it("turns every row of a step that reaches beyond, and no row of one that does not", () => {
    const beyond = { positions: 4, inverseFrequencies: long };
    expect(turned({ beyond }, [4])).toEqual(turned({}, [4]));
    expect(turned({ beyond }, [6])).toEqual(turned({ inverseFrequencies: long }, [6]));
    const mixed = turned({ beyond }, [3, 3]);
    expect(mixed.subarray(0, 12)).toEqual(turned({}, [3, 3]).subarray(0, 12));
    expect(mixed.subarray(12)).toEqual(turned({ inverseFrequencies: long }, [3, 3]).subarray(12));
  });
});

it("GELU's noise covers what float32 makes of 1 + tanh near -1", () => {
  const f = Math.fround;
  const xs = Float64Array.from({ length: 40 }, (_, i) => f(-5 + i * 0.1));
  const op = activation("gelu_pytorch_tanh");
  const inputs = [{ columns: 40, values: xs }];
  const precision = { store: "float32", compute: "float32" } as const;
  const { value, variance } = evaluateOp({ op, inputs, columns: 40, noise: true, precision });
  for (let i = 0; i < 40; i++) {
    const inner = f(f(Math.sqrt(2 / Math.PI)) * f(xs[i]! + f(f(0.044715) * f(xs[i]! ** 3))));
    const computed = f(f(0.5 * xs[i]!) * f(1 + f(Math.tanh(inner))));
    expect(Math.abs(computed - value[i]!)).toBeLessThan(6 * Math.sqrt(variance[i]!));
  }
});
