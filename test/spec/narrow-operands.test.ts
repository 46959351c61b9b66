import { describe, expect, test } from "vitest";
import { attention } from "../../src/spec/ops/attention.js";
import { attentionRecipes } from "../../src/spec/ops/attention-recipes.js";
import { linear } from "../../src/spec/ops/linear.js";
import { decode, encode } from "../../src/tensor/dtype.js";
import { expected } from "../engine/expected.js";

/** [a value that the type cannot hold, what it becomes] */
const rounded = { bfloat16: [257, 256], float16: [2049, 2048] } as const;

describe.each(["bfloat16", "float16"] as const)("operands-%s", (dtype) => {
  const [value, nearest] = rounded[dtype];
  const round = (x: number) => decode(encode([x], dtype), dtype)[0]!;

  test("a product multiplies rounded operands, and sums what the type could not hold", () => {
    const parameters = { w: { shape: [1, 2], values: [value, 1] } };
    const op = linear({ weight: "w" });
    const recipe = op.recipes!.find(({ id }) => id === `operands-${dtype}`)!;
    const inputs = [{ columns: 2, values: Float64Array.of(value, 1) }];
    expect(round(value)).toBe(nearest);
    expect([...expected(op, inputs, 1, { parameters, recipe }).value]).toEqual([nearest ** 2 + 1]);
    expect([...expected(op, inputs, 1, { parameters }).value]).toEqual([value ** 2 + 1]);
  });

  test("attention scores rounded queries and keys, and weighs rounded values", () => {
    const shape = { heads: 1, keyValueHeads: 1, headDim: 1, scale: 1 / nearest };
    const op = attention({ ...shape, lookAhead: Number.POSITIVE_INFINITY });
    // Keys that differ only until they are rounded.
    const inputs = [
      [nearest, nearest],
      [value, nearest],
      [0, value],
    ].map((values) => ({
      columns: 1,
      values: Float64Array.from(values),
    }));
    for (const id of [`operands-${dtype}`, `operands-${dtype}-tiles-64`]) {
      const recipe = attentionRecipes.find((candidate) => candidate.id === id)!;
      for (const output of expected(op, inputs, 1, { recipe }).value) expect(output).toBeCloseTo(nearest / 2, 6);
    }
    for (const output of expected(op, inputs, 1).value) expect(output).toBeCloseTo(value / (1 + Math.E), 6);
  });
});
