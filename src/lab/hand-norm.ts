import { emptyBlock, type Op } from "../spec/op.js";
import { type RmsNormAttributes, rmsNormRecipes } from "../spec/ops/rmsnorm.js";
import { type DType, roundTo } from "../tensor/dtype.js";

/** What a norm does besides: adds to the weight, takes something off every channel of a group first. */
export interface NormChanges {
  readonly offset?: number;
  readonly centre?: (group: Float64Array) => number;
  /** Channels that are normalised together; those of the norm unless given. */
  readonly together?: number;
}

/** A norm written out: `inverse` says what a group of channels is multiplied by. */
export function handNorm(
  { weight, width }: RmsNormAttributes,
  store: DType,
  inverse: (group: Float64Array) => number,
  { offset = 0, centre, together = width }: NormChanges = {},
): Op {
  return {
    kind: "rmsnorm",
    attributes: {},
    recipes: rmsNormRecipes,
    evaluate(context, rows, columns) {
      const x = context.input(0, rows).value;
      const w = weight ? context.parameters.rows(weight, 0, 1) : undefined;
      const inputs = context.width(0);
      const out = emptyBlock(rows.length * columns.length, false);
      for (let i = 0; i < out.value.length; i++) {
        const r = Math.floor(i / columns.length);
        const column = columns[i % columns.length]!;
        const first = r * inputs + Math.floor(column / together) * together;
        const group = x.subarray(first, first + together);
        const centred = x[r * inputs + column]! - (centre?.(group) ?? 0);
        const exact = Math.fround(centred * inverse(group));
        const normed = context.rounding?.settings.normalised === false ? exact : roundTo(exact, store);
        out.value[i] = normed * ((w?.[column % width] ?? 1) + offset);
      }
      return out;
    },
  };
}

/** Mean of the squares of a group. */
export function meanSquare(group: Float64Array): number {
  return group.reduce((sum, x) => sum + x * x, 0) / group.length;
}

/** Mean of a group. */
export function mean(group: Float64Array): number {
  return group.reduce((sum, x) => sum + x, 0) / group.length;
}
