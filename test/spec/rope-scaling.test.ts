import { describe, expect, it } from "vitest";
import { ropeTurning } from "../../src/spec/models/rope-scaling.js";
import { InputError } from "../../src/tensor/errors.js";

/** The setting of Hugging Face's published snapshots: theta 10000, heads of 128, trained on 2048 tokens. */
const setting = { theta: 10000, rotaryDim: 128, maxPositions: 2048 };
const run = (rope: Parameters<typeof ropeTurning>[0], change = {}) =>
  ropeTurning(rope, { ...setting, ...change }, "config.json");

function expectAt(frequencies: Float64Array, published: Record<number, number>): void {
  for (const [index, value] of Object.entries(published))
    expect(frequencies[Number(index)]! / value, `pair ${index}`).toBeCloseTo(1, 4);
}

describe("inverse frequencies", () => {
  const plain = run({}).inverseFrequencies;

  it("fall from 1 to just above 1 / theta", () => {
    expect(plain.length).toBe(64);
    expect(plain[0]).toBe(1);
    for (let j = 0; j < 64; j++) expect(plain[j]).toBeCloseTo(1 / 10000 ** (j / 64), 15);
  });

  it("linear: every position counts as position / factor", () => {
    const { inverseFrequencies, attentionFactor } = run({ rope_type: "linear", factor: 4 });
    expect(attentionFactor).toBe(1);
    for (let j = 0; j < 64; j++) expect(inverseFrequencies[j]).toBeCloseTo(plain[j]! / 4, 15);
    expect(run({ type: "linear", factor: 4 }).inverseFrequencies).toEqual(inverseFrequencies);
  });

  it("longrope: a factor per pair, and a second set for sequences beyond the original length", () => {
    const rope = {
      rope_type: "longrope",
      original_max_position_embeddings: 1024,
      short_factor: Array.from({ length: 64 }, () => 2),
      long_factor: Array.from({ length: 64 }, () => 5),
    };
    const { inverseFrequencies, attentionFactor, beyond } = run(rope);
    expect(attentionFactor).toBeCloseTo(Math.sqrt(1 + Math.log(2) / Math.log(1024)), 12);
    expect(run({ ...rope, factor: 4 }).attentionFactor).toBeCloseTo(Math.sqrt(1 + Math.log(4) / Math.log(1024)), 12);
    expect(beyond!.positions).toBe(1024);
    for (let j = 0; j < 64; j++) {
      expect(inverseFrequencies[j]).toBeCloseTo(plain[j]! / 2, 15);
      expect(beyond!.inverseFrequencies[j]).toBeCloseTo(plain[j]! / 5, 15);
    }
  });

  it("llama3: as published for factor 10, low 1, high 4, 2048 tokens", () => {
    const rope = {
      rope_type: "llama3",
      factor: 10,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 2048,
    };
    const { inverseFrequencies, attentionFactor } = run(rope);
    expect(attentionFactor).toBe(1);
    expectAt(inverseFrequencies, {
      0: 1,
      16: 0.1,
      30: 1.3335e-2,
      31: 1.073e-2,
      32: 7.7785e-3,
      36: 1.9675e-3,
      40: 3.4539e-4,
      41: 2.7384e-4,
      63: 1.1548e-5,
    });
    inverseFrequencies.forEach((f, j) => {
      const turns = (2048 * plain[j]!) / (2 * Math.PI);
      if (turns > 4) expect(f).toBe(plain[j]);
      else if (turns < 1) expect(f).toBeCloseTo(plain[j]! / 10, 15);
      else {
        // Between one and four turns within the trained length, the share kept grows linearly with the turns.
        const kept = (turns - 1) / 3;
        expect(f).toBeCloseTo(plain[j]! * (kept + (1 - kept) / 10), 14);
      }
    });
  });

  it("llama3 as in Llama 3.1: high frequencies kept, low ones divided by 8", () => {
    const rope = {
      rope_type: "llama3",
      factor: 8,
      low_freq_factor: 1,
      high_freq_factor: 4,
      original_max_position_embeddings: 8192,
    };
    const { inverseFrequencies } = run(rope, { theta: 500000, maxPositions: 131072 });
    const base = Float64Array.from({ length: 64 }, (_, j) => 500000 ** (-j / 64));
    expect(inverseFrequencies[0]).toBe(1);
    expect(inverseFrequencies[63]! / base[63]!).toBeCloseTo(1 / 8, 12);
    for (let j = 1; j < 64; j++) {
      expect(inverseFrequencies[j]).toBeLessThan(inverseFrequencies[j - 1]!);
      expect(inverseFrequencies[j]! / base[j]!).toBeLessThanOrEqual(1);
      expect(inverseFrequencies[j]! / base[j]!).toBeGreaterThanOrEqual(1 / 8 - 1e-12);
    }
  });

  it("yarn: as published for factor 10, beta 32 and 1", () => {
    const { inverseFrequencies, attentionFactor } = run({ rope_type: "yarn", factor: 10, beta_fast: 32, beta_slow: 1 });
    expectAt(inverseFrequencies, {
      0: 1,
      8: 0.31623,
      16: 0.1,
      17: 8.3479e-2,
      24: 2.2515e-2,
      32: 4.24e-3,
      40: 4.3007e-4,
      41: 2.7384e-4,
      63: 1.1548e-5,
    });
    expect(attentionFactor).toBeCloseTo(0.1 * Math.log(10) + 1, 15);
    expect(run({ rope_type: "yarn", factor: 10 }).inverseFrequencies).toEqual(inverseFrequencies);
  });

  it("yarn: takes an attention factor, and the trained length from its own field", () => {
    const rope = { rope_type: "yarn", factor: 4, attention_factor: 0.5, original_max_position_embeddings: 2048 };
    const { inverseFrequencies, attentionFactor } = run(rope, { maxPositions: 8192 });
    expect(attentionFactor).toBe(0.5);
    expect(inverseFrequencies).toEqual(run({ rope_type: "yarn", factor: 4 }).inverseFrequencies);
  });

  it.each([
    ["an unknown type", { rope_type: "dynamic" }, /rope_type: "dynamic" is not one of/],
    ["linear without a factor", { rope_type: "linear" }, /rope_scaling\.factor: expected a positive number/],
    ["llama3 without its factors", { rope_type: "llama3", factor: 8 }, /rope_scaling\.low_freq_factor/],
    ["yarn without a factor", { rope_type: "yarn" }, /rope_scaling\.factor/],
  ])("refuse %s", (_, rope, expected) => {
    expect(() => run(rope)).toThrow(InputError);
    expect(() => run(rope)).toThrow(expected);
  });
});
