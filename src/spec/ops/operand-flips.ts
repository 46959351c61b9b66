import type { OpContext } from "../op.js";
import type { LinearAttributes } from "./linear.js";
import { weightReader } from "./linear-weights.js";
import { quantisedRows } from "./quantised.js";

/**
 * What a product's result may move by because its operand was quantised from numbers with more digits than are known here: a
 * quotient across a tie moves by a whole step, a tile whose largest value moved by its whole scale. The largest of all legal ways.
 */
export function operandFlips(
  { weight, weightFormat }: LinearAttributes,
  context: OpContext,
  rows: Int32Array,
  columns: Int32Array,
): Float64Array | undefined {
  if (!weightFormat || weightFormat.operands.length === 0) return undefined;
  const n = context.width(0);
  const most = new Float64Array(rows.length * columns.length);
  for (const { quantisation } of weightFormat.operands) {
    const tile = Math.min(n, quantisation.tile.columns);
    const tiles = Math.ceil(n / tile);
    const { changed, off, drift } = quantisedRows(context, rows, quantisation);
    const weights = weightReader(columns, context.parameters, weight, n, undefined);
    for (let c = 0; c < columns.length; c++) {
      const { values: w, start } = weights(c);
      for (let r = 0; r < rows.length; r++) {
        let variance = 0;
        for (let t = 0; t < tiles; t++) {
          let part = 0;
          for (let k = t * tile; k < Math.min(n, (t + 1) * tile); k++) {
            part += w[start + k]! * changed[r * n + k]!;
            variance += (w[start + k]! * off![r * n + k]!) ** 2;
          }
          variance += (part * drift![r * tiles + t]!) ** 2;
        }
        const at = r * columns.length + c;
        if (variance > most[at]!) most[at] = variance;
      }
    }
  }
  return most;
}
