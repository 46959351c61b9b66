import type { ParameterReader } from "../../tensor/checkpoint.js";
import { roundTo } from "../../tensor/dtype.js";
import type { QuantisedParameter } from "../../tensor/quantised-parameter.js";
import { roundAll, roundToFormat } from "../../tensor/rounding.js";
import { operandFormat } from "../narrow-operands.js";
import type { OpRounding } from "../op.js";
import type { RecipeSettings } from "../recipe.js";

/** Rows of a weight [columns, inputs] as a product multiplies with them: a quantised one has ways of its own to round. */
export function weightRows(
  parameters: ParameterReader,
  weight: string,
  first: number,
  count: number,
  rounding: OpRounding | undefined,
  mergedScale?: number,
): Float64Array {
  const how = rounding?.settings.weight;
  const quantised = how === undefined ? undefined : parameters.quantised?.(weight);
  if (!quantised) return parameters.rows(weight, first, count);
  if (how === "merged") return requantised(quantised, first, count, mergedScale, rounding!.settings);
  return quantised.rows(first, count, how === "exact" ? "exact" : rounding!.store);
}

const largestE4m3 = 448;

/** The numbers of an e4m3 weight dequantised to float16 and brought to another scale: vLLM's `requantize_with_max_scale`. */
function requantised(
  weight: QuantisedParameter,
  first: number,
  count: number,
  scale: number | undefined,
  { narrow, reciprocal }: RecipeSettings,
): Float64Array {
  const exact = weight.rows(first, count, "exact");
  const own = weight.tensorScale?.();
  if (own === undefined || scale === undefined) return exact;
  const factor = narrow ? roundTo(own, "float16") : own;
  // Number times scale is exact in float64, and so is the way back.
  const out = exact.map((x) => (x / own) * factor);
  roundAll(out, "float16");
  const inverse = Math.fround(1 / scale);
  for (let i = 0; i < out.length; i++) {
    const quotient = Math.fround(reciprocal ? out[i]! * inverse : out[i]! / scale);
    out[i] = Math.max(-largestE4m3, Math.min(largestE4m3, quotient));
  }
  roundAll(out, "float8_e4m3fn");
  for (let i = 0; i < out.length; i++) out[i]! *= scale;
  return out;
}

/** Weight rows by position in `columns`: read as one range when all are wanted, else row by row. */
export function weightReader(
  columns: Int32Array,
  parameters: ParameterReader,
  weight: string,
  n: number,
  rounding: OpRounding | undefined,
  mergedScale?: number,
): (c: number) => { values: Float64Array; start: number } {
  const first = columns[0] ?? 0;
  const contiguous = columns.every((column, c) => column === first + c);
  const format = operandFormat(rounding?.settings);
  const read = (from: number, count: number) => {
    const values = weightRows(parameters, weight, from, count, rounding, mergedScale);
    if (!format) return values;
    const rounded = values.slice();
    roundToFormat(rounded, format);
    return rounded;
  };
  const chunk = Math.max(1, Math.floor(2 ** 22 / n));
  if (!contiguous) return (c) => ({ values: read(columns[c]!, 1), start: 0 });
  let loaded: Float64Array | undefined;
  let loadedFrom = -1;
  return (c) => {
    const block = Math.floor(c / chunk);
    if (block !== loadedFrom || !loaded) {
      const from = block * chunk;
      loaded = read(first + from, Math.min(chunk, columns.length - from));
      loadedFrom = block;
    }
    return { values: loaded, start: (c - block * chunk) * n };
  };
}
