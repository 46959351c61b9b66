import { emptyBlock, type Op } from "../spec/op.js";
import type { RmsNormAttributes } from "../spec/ops/rmsnorm.js";
import { type DType, roundTo } from "../tensor/dtype.js";

/** What a norm does besides: adds to the weight, takes something off every channel of a group first. */
export interface NormChanges {
  readonly offset?: number;
  readonly centre?: (group: Float64Array) => number;
}

/** A norm written out: `inverse` says what a group of channels is multiplied by. */
export function handNorm(
  { weight, width }: RmsNormAttributes,
  store: DType,
  inverse: (group: Float64Array) => number,
  { offset = 0, centre }: NormChanges = {},
): Op {
  return {
    kind: "rmsnorm",
    attributes: {},
    evaluate(context, rows, columns) {
      const x = context.input(0, rows).value;
      const w = weight ? context.parameters.rows(weight, 0, 1) : undefined;
      const inputs = context.width(0);
      const out = emptyBlock(rows.length * columns.length, false);
      for (let i = 0; i < out.value.length; i++) {
        const r = Math.floor(i / columns.length);
        const column = columns[i % columns.length]!;
        const first = r * inputs + Math.floor(column / width) * width;
        const group = x.subarray(first, first + width);
        const centred = x[r * inputs + column]! - (centre?.(group) ?? 0);
        const normed = roundTo(Math.fround(centred * inverse(group)), store);
        out.value[i] = normed * ((w?.[column % width] ?? 1) + offset);
      }
      return out;
    },
  };
}
