import type { ParameterReader } from "../../tensor/checkpoint.js";
import { tf32Format } from "../../tensor/dtype.js";
import { roundToFormat } from "../../tensor/rounding.js";
import type { OpRounding } from "../op.js";

/** Rows of a weight [columns, inputs] as a product multiplies with them: a quantised one has ways of its own to round. */
export function weightRows(
  parameters: ParameterReader,
  weight: string,
  first: number,
  count: number,
  rounding: OpRounding | undefined,
): Float64Array {
  const how = rounding?.settings.weight;
  const quantised = how === undefined ? undefined : parameters.quantised?.(weight);
  if (!quantised) return parameters.rows(weight, first, count);
  return quantised.rows(first, count, how === "exact" ? "exact" : rounding!.store);
}

/** Weight rows by position in `columns`: read as one range when all are wanted, else row by row. */
export function weightReader(
  columns: Int32Array,
  parameters: ParameterReader,
  weight: string,
  n: number,
  rounding: OpRounding | undefined,
): (c: number) => { values: Float64Array; start: number } {
  const first = columns[0] ?? 0;
  const contiguous = columns.every((column, c) => column === first + c);
  const read = (from: number, count: number) => {
    const values = weightRows(parameters, weight, from, count, rounding);
    if (!rounding?.settings.tf32) return values;
    const rounded = values.slice();
    roundToFormat(rounded, tf32Format);
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
