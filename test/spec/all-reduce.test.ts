import { describe, expect, it } from "vitest";
import { matchBits } from "../../src/diagnose/bits/bits.js";
import { surpriseLimit } from "../../src/diagnose/bits/limits.js";
import { randomGenerator } from "../../src/diagnose/bits/sample.js";
import { indices } from "../../src/spec/op.js";
import { allReduce } from "../../src/spec/ops/all-reduce.js";
import { UnitRecipe } from "../../src/spec/recipe.js";
import { roundTo } from "../../src/tensor/dtype.js";
import { roundAll } from "../../src/tensor/rounding.js";
import { evaluateOp, evaluatorOf, normal, parametersOf } from "./single-op.js";

const columns = 24;
const steps = [5, 2];
const rowCount = 7;
const store = "bfloat16" as const;
const limit = surpriseLimit(1e8);

function terms(ranks: number): Float64Array[] {
  return Array.from({ length: ranks }, (_, rank) => {
    const values = normal(rowCount * columns, 40 + rank);
    roundAll(values, store);
    return values;
  });
}

/** The sum as an implementation takes it that stores every sum on its way: element by element in an order of its own. */
function runningSum(of: readonly Float64Array[], orderAt: (i: number) => readonly number[]): Float64Array {
  return Float64Array.from(of[0]!, (_, i) => {
    const [first, ...others] = orderAt(i);
    return others.reduce((sum, rank) => roundTo(sum + of[rank]![i]!, store), of[first!]![i]!);
  });
}

function match(of: readonly Float64Array[], recipe: string, observed: Float64Array, weights = of.map(() => 1)) {
  const op = allReduce({ weights });
  const chosen = op.recipes!.find(({ id }) => id === recipe)!;
  const evaluator = evaluatorOf({
    op,
    inputs: of.map((values) => ({ columns, values })),
    columns,
    steps,
    precision: { store, compute: "float32" },
    recipe: new UnitRecipe(store, new Map([["out", chosen]])),
  });
  const sample = { rows: indices(rowCount), columns: indices(columns) };
  return matchBits(evaluator, "out", sample, observed, store, { limit });
}

function shuffled(ranks: number, random: () => number): number[] {
  const order = Array.from({ length: ranks }, (_, rank) => rank);
  return order
    .map((rank) => ({ rank, at: random() }))
    .sort((a, b) => a.at - b.at)
    .map(({ rank }) => rank);
}

describe("a sum over ranks", () => {
  it("means the sum of its terms, with the bias once", () => {
    const of = terms(3);
    const bias = normal(columns, 7);
    const { value } = evaluateOp({
      op: allReduce({ weights: [1, 1, 1], bias: "b" }),
      inputs: of.map((values) => ({ columns, values })),
      columns,
      parameters: parametersOf({ b: { shape: [columns], values: bias } }),
    });
    value.forEach((x, i) => {
      expect(x).toBeCloseTo(of[0]![i]! + of[1]![i]! + of[2]![i]! + bias[i % columns]!, 12);
    });
  });

  it("of two ranks has one rounding, whoever adds", () => {
    const of = terms(2);
    for (const order of [
      [0, 1],
      [1, 0],
    ]) {
      const { equal, compared } = match(
        of,
        "sum-once",
        runningSum(of, () => order),
      );
      expect(equal).toBe(compared);
    }
  });

  it.each([3, 4, 8])("of %d ranks may be stored on its way in any order", (ranks) => {
    const of = terms(ranks);
    const random = randomGenerator(ranks);
    for (let tried = 0; tried < 20; tried++) {
      const observed = runningSum(of, () => shuffled(ranks, random));
      expect(match(of, "sum-running", observed).surprise).toBeLessThan(limit);
    }
  });

  it.each([3, 4, 8])("of %d ranks is beyond all orders without one of its terms", (ranks) => {
    const of = terms(ranks);
    const observed = runningSum(of.slice(1), () => of.slice(1).map((_, rank) => rank));
    expect(match(of, "sum-running", observed).surprise).toBeGreaterThan(limit);
    expect(match(of, "sum-running", observed, [0, ...of.slice(1).map(() => 1)]).surprise).toBeLessThan(limit);
  });

  it.each([4, 6])("around gloo's ring of %d is given bit for bit, step by step", (ranks) => {
    const of = terms(ranks);
    const observed = runningSum(of, (i) => {
      const [first, count] = i < steps[0]! * columns ? [0, steps[0]!] : [steps[0]! * columns, steps[1]!];
      const segment = Math.ceil((count * columns * 2) / (2 * ranks) / 2) * 2;
      const chunk = Math.floor(((i - first) * 2) / (2 * segment));
      return Array.from({ length: ranks }, (_, k) => (chunk + 2 * ranks - 1 - k) % ranks);
    });
    const ring = match(of, "sum-ring", observed);
    expect(ring.equal).toBe(ring.compared);
    expect(match(of, "sum-once", observed).surprise).toBeGreaterThan(limit);
    expect(match(of, "sum-running", observed).surprise).toBeLessThan(limit);
  });
});
