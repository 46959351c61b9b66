import { describe, expect, it } from "vitest";
import { chooseToken } from "../../src/engine/reference/choose-token.js";
import { normals, randomNumbers } from "./gpu.js";

const greedy = { temperature: 0, topP: 1, seed: 0 };

describe("greedy sampling", () => {
  it("takes the largest logit, the lowest token on ties", () => {
    expect(chooseToken([1, 5, 5, 2], greedy, 0)).toEqual({ token: 1, finite: true });
    expect(chooseToken([-3, -1, -2], greedy, 0)).toEqual({ token: 1, finite: true });
  });

  it("never takes NaN or infinity, and tells of them", () => {
    expect(chooseToken([1, Number.NaN, 3, Infinity], greedy, 0)).toEqual({ token: 2, finite: false });
    expect(chooseToken([Number.NaN, Number.NaN], greedy, 0)).toEqual({ token: 0, finite: false });
    expect(chooseToken([-Infinity, 1], { ...greedy, temperature: 1 }, 0)).toEqual({ token: 1, finite: false });
  });
});

describe("sampling at a temperature", () => {
  const logits = [2, 1, 0, -1, 0.5];
  const draws = 20_000;

  function frequencies(temperature: number, topP: number): number[] {
    const counts = new Array<number>(logits.length).fill(0);
    for (let position = 0; position < draws; position++) {
      counts[chooseToken(logits, { temperature, topP, seed: 11 }, position).token]!++;
    }
    return counts.map((count) => count / draws);
  }

  function softmax(temperature: number): number[] {
    const weights = logits.map((logit) => Math.exp(logit / temperature));
    const total = weights.reduce((sum, weight) => sum + weight);
    return weights.map((weight) => weight / total);
  }

  it.each([0.5, 1, 2])("draws from softmax(logits / %d)", (temperature) => {
    const expected = softmax(temperature);
    frequencies(temperature, 1).forEach((frequency, i) => {
      const p = expected[i]!;
      expect(Math.abs(frequency - p)).toBeLessThan(5 * Math.sqrt((p * (1 - p)) / draws));
    });
  });

  it("keeps to the smallest set of tokens that reaches top-p", () => {
    // Probabilities at temperature 1: 0.56, 0.21, 0.08, 0.03, 0.13.
    const [first, second, third, fourth, fifth] = frequencies(1, 0.8);
    expect([third, fourth]).toEqual([0, 0]);
    expect(first).toBeGreaterThan(0.55);
    expect(second! + fifth!).toBeGreaterThan(0.3);
    expect(frequencies(1, 0.5)).toEqual([1, 0, 0, 0, 0]);
  });

  it("is a function of seed, position and token", () => {
    const row = normals(randomNumbers(3), 500);
    const sampling = { temperature: 1, topP: 0.9, seed: 5 };
    const tokens = Array.from({ length: 40 }, (_, position) => chooseToken(row, sampling, position).token);
    expect(Array.from({ length: 40 }, (_, position) => chooseToken(row, sampling, position).token)).toEqual(tokens);
    expect(new Set(tokens).size).toBeGreaterThan(10);
    const other = Array.from({ length: 40 }, (_, p) => chooseToken(row, { ...sampling, seed: 6 }, p).token);
    expect(other).not.toEqual(tokens);
  });
});
