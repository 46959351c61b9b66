import { describe, expect, it } from "vitest";
import { type Block, mayBe } from "../../src/spec/op.js";
import { type ActivationName, activation, activations } from "../../src/spec/ops/activation.js";
import { add } from "../../src/spec/ops/add.js";
import { append } from "../../src/spec/ops/append.js";
import { argmax } from "../../src/spec/ops/argmax.js";
import { type AttentionAttributes, attention } from "../../src/spec/ops/attention.js";
import { embedding } from "../../src/spec/ops/embedding.js";
import { linear } from "../../src/spec/ops/linear.js";
import { multiply } from "../../src/spec/ops/multiply.js";
import { type RmsNormAttributes, rmsNorm } from "../../src/spec/ops/rmsnorm.js";
import { rope } from "../../src/spec/ops/rope.js";
import type { RopeAttributes } from "../../src/spec/ops/rope-attributes.js";
import { select } from "../../src/spec/ops/select.js";
import { evaluateOp, normal, parametersOf, type SingleOp } from "./single-op.js";

function close(block: Block | Float64Array, expected: ArrayLike<number>, digits = 12): void {
  const values = block instanceof Float64Array ? block : block.value;
  expect(values.length).toBe(expected.length);
  for (let i = 0; i < values.length; i++) expect(values[i]).toBeCloseTo(expected[i]!, digits);
}

describe("embedding", () => {
  const parameters = parametersOf({ e: { shape: [3, 2], values: [1, 2, 3, 4, 5, 6] } });
  it("looks rows up by token", () => {
    const single: SingleOp = { op: embedding("e"), inputs: [], columns: 2, tokens: [2, 0, 2], parameters };
    close(evaluateOp(single), [5, 6, 1, 2, 5, 6]);
    close(evaluateOp(single, [1, 2], [1]), [2, 6]);
  });
});

describe("rmsnorm", () => {
  const base: RmsNormAttributes = { weight: "w", epsilon: 1e-6, width: 4 };
  const run = (attributes: Partial<RmsNormAttributes>, values: ArrayLike<number>, w = [1, 2, 3, 4], noise = false) =>
    evaluateOp({
      op: rmsNorm({ ...base, ...attributes }),
      inputs: [{ columns: values.length, values }],
      columns: values.length,
      parameters: parametersOf({ w: { shape: [w.length], values: w } }),
      precision: { store: "bfloat16", compute: "float32" },
      noise,
    });

  it("divides by the root of the mean square and multiplies by the weight", () => {
    const rms = Math.sqrt((1 + 4 + 9 + 16) / 4 + 1e-6);
    close(run({}, [1, -2, 3, -4]), [1 / rms, -4 / rms, 9 / rms, -16 / rms]);
  });

  it("does not depend on the scale of its input, save for epsilon", () => {
    const x = normal(4, 1);
    close(
      run(
        { epsilon: 0 },
        x.map((v) => v * 1e10),
      ),
      run({ epsilon: 0 }, x).value,
    );
  });

  it("normalises every head on its own", () => {
    const both = run({}, [1, 2, 3, 4, 10, 20, 30, 40]).value;
    close(both.slice(4), both.slice(0, 4), 5);
  });

  it("gives 0 for zeros, since epsilon keeps the root away from 0", () => {
    close(run({}, [0, 0, 0, 0]), [0, 0, 0, 0]);
  });

  it("flags rows whose squares leave float32: a correct kernel gives 0 or NaN there", () => {
    const out = run({}, [3.8e28, 1, 1, 1], undefined, true);
    expect([...out.range!]).toEqual(Array(4).fill(mayBe.zero | mayBe.notANumber));
    expect(out.value[0]).toBeCloseTo(2, 6);
    expect(run({}, [1e18, 1, 1, 1], undefined, true).range).toBeUndefined();
  });
});

describe("linear", () => {
  const w = { shape: [3, 2], values: [1, 2, 3, 4, 5, 6] };
  const parameters = parametersOf({ w, b: { shape: [3], values: [10, 20, 30] } });
  const x = { columns: 2, values: [1, -1, 0.5, 2] };

  it("is x Wᵀ + b", () => {
    close(
      evaluateOp({ op: linear({ weight: "w" }), inputs: [x], columns: 3, parameters }),
      [-1, -1, -1, 4.5, 9.5, 14.5],
    );
    close(
      evaluateOp({ op: linear({ weight: "w", bias: "b" }), inputs: [x], columns: 3, parameters }),
      [9, 19, 29, 14.5, 29.5, 44.5],
    );
  });

  it("gives chosen columns in the order asked, with or without noise", () => {
    for (const noise of [false, true]) {
      const single = { op: linear({ weight: "w", bias: "b" }), inputs: [x], columns: 3, parameters, noise };
      close(evaluateOp(single, [1], [2, 0]), [44.5, 14.5]);
    }
  });

  it("flags sums of terms beyond float32, which a kernel may turn into infinity or NaN", () => {
    const single = {
      op: linear({ weight: "w" }),
      inputs: [{ columns: 2, values: [3e38, -3e38, 1, 1] }],
      columns: 3,
      parameters,
      noise: true,
    };
    const { range } = evaluateOp(single);
    expect([...range!]).toEqual([6, 6, 6, 0, 0, 0]);
    expect(mayBe.infinite | mayBe.notANumber).toBe(6);
  });
});

describe("rope", () => {
  const base: RopeAttributes = {
    headDim: 8,
    rotaryDim: 8,
    inverseFrequencies: Float64Array.of(1, 0.1, 0.01, 0.001),
    attentionFactor: 1,
    pairing: "half",
  };
  const x = normal(6 * 16, 3);
  const run = (attributes: Partial<RopeAttributes>) =>
    evaluateOp({ op: rope({ ...base, ...attributes }), inputs: [{ columns: 16, values: x }], columns: 16 }).value;

  it("leaves position 0 alone and rotates pair j by position × frequency j", () => {
    const y = run({});
    close(y.slice(0, 16), x.slice(0, 16));
    for (let row = 0; row < 6; row++) {
      for (let head = 0; head < 2; head++) {
        for (let j = 0; j < 4; j++) {
          const i = row * 16 + head * 8 + j;
          const angle = row * base.inverseFrequencies[j]!;
          expect(y[i]).toBeCloseTo(x[i]! * Math.cos(angle) - x[i + 4]! * Math.sin(angle), 12);
          expect(y[i + 4]).toBeCloseTo(x[i + 4]! * Math.cos(angle) + x[i]! * Math.sin(angle), 12);
        }
      }
    }
  });

  it.each(["half", "interleaved"] as const)("keeps the norm of every pair (%s)", (pairing) => {
    const y = run({ pairing });
    for (let i = 0; i < x.length; i += 8) {
      for (let j = 0; j < 4; j++) {
        const [a, b] = pairing === "half" ? [i + j, i + j + 4] : [i + 2 * j, i + 2 * j + 1];
        expect(Math.hypot(y[a]!, y[b]!)).toBeCloseTo(Math.hypot(x[a]!, x[b]!), 12);
      }
    }
  });

  it("makes the product of a query and a key depend on their distance alone", () => {
    const dot = (y: Float64Array, a: number, b: number) => {
      let sum = 0;
      for (let d = 0; d < 8; d++) sum += y[a * 16 + d]! * y[b * 16 + 8 + d]!;
      return sum;
    };
    const same = Float64Array.from({ length: 6 * 16 }, (_, i) => x[i % 16]!);
    const y = evaluateOp({ op: rope(base), inputs: [{ columns: 16, values: same }], columns: 16 }).value;
    expect(dot(y, 5, 3)).toBeCloseTo(dot(y, 2, 0), 12);
    expect(dot(y, 1, 4)).toBeCloseTo(dot(y, 2, 5), 12);
    expect(dot(y, 5, 3)).not.toBeCloseTo(dot(y, 5, 2), 3);
  });

  it("rotates part of a head, and scales by the attention factor", () => {
    const partial = run({ rotaryDim: 4, inverseFrequencies: Float64Array.of(1, 0.1) });
    for (let i = 0; i < x.length; i++) if (i % 8 >= 4) expect(partial[i]).toBe(x[i]);
    close(
      run({ attentionFactor: 1.5 }),
      run({}).map((v) => 1.5 * v),
    );
  });
});

describe("attention", () => {
  const base: AttentionAttributes = { heads: 4, keyValueHeads: 2, headDim: 8, scale: 8 ** -0.5 };
  const rows = 7;
  const q = normal(rows * 32, 11);
  const k = normal(rows * 16, 12);
  const v = normal(rows * 16, 13);
  const run = (
    attributes: Partial<AttentionAttributes> = {},
    steps?: number[],
    keys: ArrayLike<number> = k,
    values: ArrayLike<number> = v,
  ) =>
    evaluateOp({
      op: attention({ ...base, ...attributes }),
      inputs: [
        { columns: 32, values: q },
        { columns: 16, values: keys },
        { columns: 16, values },
      ],
      columns: 32,
      ...(steps ? { steps } : {}),
    }).value;

  /** The definition, written out for one row and head. */
  function byHand(row: number, head: number, visible: (key: number) => boolean, cap?: number): number[] {
    const g = Math.floor(head / 2);
    const scores: number[] = [];
    for (let key = 0; key < rows; key++) {
      let dot = 0;
      for (let d = 0; d < 8; d++) dot += q[row * 32 + head * 8 + d]! * k[key * 16 + g * 8 + d]!;
      const score = dot * base.scale;
      scores.push(visible(key) ? (cap ? cap * Math.tanh(score / cap) : score) : -Infinity);
    }
    const weights = scores.map((s) => Math.exp(s));
    const total = weights.reduce((a, b) => a + b, 0);
    return Array.from({ length: 8 }, (_, d) =>
      weights.reduce((sum, w, key) => sum + (w / total) * v[key * 16 + g * 8 + d]!, 0),
    );
  }
  function matches(out: Float64Array, visible: (row: number, key: number) => boolean, cap?: number): void {
    for (let row = 0; row < rows; row++)
      for (let head = 0; head < 4; head++)
        close(
          out.slice(row * 32 + head * 8, row * 32 + head * 8 + 8),
          byHand(row, head, (key) => visible(row, key), cap),
        );
  }

  it("is softmax over the keys up to the query's own, times values", () => {
    matches(run(), (row, key) => key <= row);
  });

  it("caps scores softly, and looks back no further than its window", () => {
    matches(run({ softCap: 2 }), (row, key) => key <= row, 2);
    matches(run({ windowLeft: 2 }), (row, key) => key <= row && key >= row - 2);
    matches(run({ lookAhead: Infinity }), () => true);
  });

  it("returns the value itself where one key is visible", () => {
    const out = run();
    for (let head = 0; head < 4; head++)
      close(out.slice(head * 8, head * 8 + 8), v.slice(Math.floor(head / 2) * 8, Math.floor(head / 2) * 8 + 8));
    close(run({ windowLeft: 0 }).slice(32, 40), v.slice(16, 24));
  });

  it("is the same in one prefill, in chunks and token by token: causal from the bottom right", () => {
    const whole = run();
    close(run({}, [4, 2, 1]), whole);
    close(run({}, new Array(rows).fill(1)), whole);
    expect(run({ topLeft: true }, [4, 3])[5 * 32]).not.toBeCloseTo(whole[5 * 32]!, 6);
    close(run({ topLeft: true }), whole);
  });

  it("shares a key head among query heads as if it were repeated", () => {
    const repeat = (x: Float64Array) => {
      const out = new Float64Array(rows * 32);
      for (let row = 0; row < rows; row++)
        for (let c = 0; c < 32; c++) out[row * 32 + c] = x[row * 16 + Math.floor(c / 16) * 8 + (c % 8)]!;
      return out;
    };
    const full = evaluateOp({
      op: attention({ ...base, keyValueHeads: 4 }),
      inputs: [q, repeat(k), repeat(v)].map((values) => ({ columns: 32, values })),
      columns: 32,
    });
    close(full, run());
  });

  it("gives 0 where no key is visible, and never multiplies what it masks", () => {
    expect([...run({ visible: () => false })].every((value) => value === 0)).toBe(true);
    const poisoned = Float64Array.from(v);
    poisoned.fill(Number.NaN, 6 * 16);
    close(run({}, undefined, k, poisoned).slice(0, 6 * 32), run().slice(0, 6 * 32));
  });

  it("survives scores that overflow exp, and splits weight evenly between equal keys", () => {
    const large = run({ scale: 1e4 });
    expect([...large].every(Number.isFinite)).toBe(true);
    const same = Float64Array.from({ length: rows * 16 }, (_, i) => k[i % 16]!);
    const out = run({}, undefined, same);
    for (let d = 0; d < 8; d++) {
      let mean = 0;
      for (let key = 0; key < rows; key++) mean += v[key * 16 + d]! / rows;
      expect(out[6 * 32 + d]).toBeCloseTo(mean, 12);
    }
  });

  it("lets a sink take weight without giving value", () => {
    const out = run({ sink: 0 });
    const plain = run();
    const score = q.slice(0, 8).reduce((sum, x, d) => sum + x * k[d]!, 0) * base.scale;
    expect(out[0]! / plain[0]!).toBeCloseTo(Math.exp(score) / (1 + Math.exp(score)), 10);
  });
});

describe("element-wise ops", () => {
  const a = { columns: 3, values: [1, -2, 3] };
  const b = { columns: 3, values: [10, 20, 0.5] };
  it("add with weights, multiply, append and select", () => {
    close(evaluateOp({ op: add(), inputs: [a, b], columns: 3 }), [11, 18, 3.5]);
    close(evaluateOp({ op: add([1, 0]), inputs: [a, b], columns: 3 }), [1, -2, 3]);
    close(evaluateOp({ op: add([2, -1]), inputs: [a, b], columns: 3 }), [-8, -24, 5.5]);
    close(evaluateOp({ op: multiply(), inputs: [a, b], columns: 3 }), [10, -40, 1.5]);
    close(evaluateOp({ op: append(), inputs: [a], columns: 3 }), [1, -2, 3]);
    const rows = { columns: 1, values: [5, 6, 7] };
    close(evaluateOp({ op: select(), inputs: [rows], columns: 1 }), [5, 6, 7]);
    close(evaluateOp({ op: select((row) => Math.max(0, row - 1)), inputs: [rows], columns: 1 }), [5, 5, 6]);
  });

  it.each([
    ["silu", 1, 0.7310585786300049],
    ["silu", -20, -4.122307244877116e-8],
    ["gelu", 1, 0.8413447460685429],
    ["gelu", -1, -0.15865525393145707],
    ["gelu_pytorch_tanh", 1, 0.8411919906082768],
    ["relu", -1, 0],
    ["sigmoid", 0, 0.5],
    ["identity", -3, -3],
  ] as [ActivationName, number, number][])("%s(%d)", (name, x, expected) => {
    const out = evaluateOp({ op: activation(name), inputs: [{ columns: 1, values: [x] }], columns: 1 });
    expect(out.value[0]).toBeCloseTo(expected, 6);
    expect(activations[name](x)).toBe(out.value[0]);
  });

  it("argmax takes the first of equals, and index 0 of a row of NaN", () => {
    const run = (values: number[]) =>
      evaluateOp({ op: argmax(), inputs: [{ columns: values.length, values }], columns: 1, noise: true });
    expect(run([1, 5, 5]).value[0]).toBe(1);
    expect(run([1, 5, 5]).variance[0]).toBe(Infinity);
    expect(run([0, 0, 0]).value[0]).toBe(0);
    expect(run([Number.NaN, Number.NaN]).value[0]).toBe(0);
    expect(run([Number.NaN, 1, 2]).value[0]).toBe(2);
    expect(run([1, 9, 5])).toEqual({ value: Float64Array.of(1), variance: Float64Array.of(0) });
  });
});
