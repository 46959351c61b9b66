import { describe, expect, it } from "vitest";
import { linear } from "../../src/spec/ops/linear.js";
import { roundTo } from "../../src/tensor/dtype.js";
import { narrowFormats } from "../../src/tensor/narrow-format.js";
import { nearestE4m3 } from "./hand-rounding.js";
import { evaluateOp, normal, parametersOf } from "./single-op.js";

const inputs = 32;
const columns = 24;
const rows = 40;
const perToken = { rows: 1, columns: Infinity };
const magnitude = { scaling: "magnitude", scaleType: "float32", format: narrowFormats.e4m3 } as const;

/** The fused kernel: the operand is quantised from its unrounded value, while its rounded copy is what is recorded. */
function fused(values: Float64Array, weight: Float64Array): Float64Array {
  const out = new Float64Array(rows * columns);
  for (let r = 0; r < rows; r++) {
    const x = values.subarray(r * inputs, (r + 1) * inputs);
    const scale = Math.fround(x.reduce((most, v) => Math.max(most, Math.abs(v)), 0) / 448);
    const narrow = x.map((v) => nearestE4m3(Math.fround(v / scale)) * scale);
    for (let c = 0; c < columns; c++)
      out[r * columns + c] = roundTo(
        narrow.reduce((sum, v, k) => sum + v * weight[c * inputs + k]!, 0),
        "bfloat16",
      );
  }
  return out;
}

describe("an operand that was quantised from more digits than were recorded", () => {
  it.each([1, 2, 3, 4])("is within the variance of the product: draw %d", (seed) => {
    const values = normal(rows * inputs, seed).map(Math.fround);
    // Few strong terms: one of them across a tie is most of what an output is off by.
    const weight = normal(columns * inputs, 100 + seed, 0.3).map((w) => roundTo(w ** 3, "bfloat16"));
    const operands = [{ quantisation: { ...magnitude, tile: perToken }, id: "e4m3", title: "e4m3" }];
    const recorded = values.map((v) => roundTo(v, "bfloat16"));
    const block = evaluateOp({
      op: linear({ weight: "w", weightFormat: { operands } }),
      inputs: [{ columns: inputs, values: recorded }],
      columns,
      parameters: parametersOf({ w: { shape: [columns, inputs], values: weight } }),
      precision: { store: "bfloat16", compute: "float32" },
      noise: true,
      dtype: "bfloat16",
      exact: false,
    });
    const seen = fused(values, weight);
    const z = seen.map((y, i) => (y - block.value[i]!) / Math.sqrt(block.variance[i]!));
    const largest = z.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    expect(largest).toBeLessThan(5);
    expect(Math.sqrt(z.reduce((sum, x) => sum + x * x, 0) / z.length)).toBeGreaterThan(0.2);
  });
});
