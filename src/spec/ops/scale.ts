import { roundTo } from "../../tensor/dtype.js";
import { computeVariance, storeVariance } from "../noise.js";
import { emptyBlock, type Op, raiseJump, scaled, usableVariance } from "../op.js";
import type { Recipe } from "../recipe.js";

export interface ScaleAttributes {
  readonly factor: number;
}

/** Where a product with a constant rounds: whether the constant itself is stored first. */
const scaleRecipes: readonly Recipe[] = [
  {
    id: "float32-factor",
    title: "the factor in float32, one rounding",
    known: ["a Python number times a tensor"],
    settings: { stored: false },
  },
  {
    id: "rounded-factor",
    title: "the factor is rounded first",
    known: ["Hugging Face's scaled embedding of Gemma"],
    settings: { stored: true },
  },
];

/** factor · x: a multiplier that a family puts on its embedding, its branches or its logits. */
export function scale(factor: number): Op {
  return {
    kind: "scale",
    attributes: { factor },
    recipes: scaleRecipes,
    evaluate({ input, noise, rounding, precision }, rows, columns) {
      const x = input(0, rows, columns);
      const out = emptyBlock(rows.length * columns.length, noise);
      const used = rounding
        ? rounding.settings.stored
          ? roundTo(factor, rounding.store)
          : Math.fround(factor)
        : factor;
      for (let i = 0; i < out.value.length; i++) out.value[i] = used * x.value[i]!;
      if (!noise) return out;
      const ofFactor = rounding ? 0 : storeVariance(factor, precision.store);
      for (let i = 0; i < out.value.length; i++) {
        const { [i]: value } = x.value as ArrayLike<number>;
        out.variance[i] =
          scaled(used * used, usableVariance(x, i)) + value! ** 2 * ofFactor + out.value[i]! ** 2 * computeVariance;
        if (x.jump) raiseJump(out, i, Math.abs(used) * x.jump[i]!);
      }
      return out;
    },
  };
}
