import { roundAll } from "../../tensor/rounding.js";
import { computeVariance, functionVariance, storeVariance } from "../noise.js";
import { emptyBlock, type MutableBlock, type Op, type OpContext, storedVariance, usableVariance } from "../op.js";
import type { Recipe } from "../recipe.js";

const softCapRecipes: readonly Recipe[] = [
  {
    id: "rounded-steps",
    title: "quotient, tanh and product are each rounded",
    known: ["Hugging Face"],
    settings: { steps: true },
  },
  { id: "float32", title: "float32 throughout, one rounding", known: ["vLLM"], settings: { steps: false } },
];

/** cap · tanh(x / cap), element-wise. Gemma Team, "Gemma 2", 2024. */
export function softCap(cap: number): Op {
  return {
    kind: "soft-cap",
    attributes: { cap },
    recipes: softCapRecipes,
    evaluate(context, rows, columns) {
      const { input, noise, rounding } = context;
      const x = input(0, rows, columns);
      const out = emptyBlock(rows.length * columns.length, noise);
      if (noise) for (let i = 0; i < out.variance.length; i++) out.variance[i] = usableVariance(x, i);
      if (x.jump) out.jump = x.jump.slice();
      out.value.set(x.value);
      capAll(context, out, cap, rounding?.settings.steps === true);
      return out;
    },
  };
}

/** The cap over values in place, with what it makes of their noise; quotient and tanh are stored where `steps` says so. */
export function capAll(
  { noise, rounding, precision }: OpContext,
  block: MutableBlock,
  cap: number,
  steps: boolean,
): void {
  const { value } = block;
  const store = rounding?.store ?? precision.store;
  const stored = () => {
    if (noise && (steps || !rounding)) stepNoise(block, store, rounding !== undefined);
    if (steps) roundAll(value, store);
  };
  for (let i = 0; i < value.length; i++) {
    value[i]! /= cap;
    if (!noise) continue;
    block.variance[i] = block.variance[i]! / cap ** 2 + value[i]! ** 2 * computeVariance;
    if (block.jump) block.jump[i]! /= cap;
  }
  stored();
  for (let i = 0; i < value.length; i++) {
    const t = Math.tanh(value[i]!);
    value[i] = t;
    if (!noise) continue;
    const slope = 1 - t * t;
    block.variance[i] = block.variance[i]! * slope ** 2 + t * t * functionVariance;
    if (block.jump) block.jump[i]! *= slope;
  }
  stored();
  for (let i = 0; i < value.length; i++) {
    value[i]! *= cap;
    if (!noise) continue;
    block.variance[i] = block.variance[i]! * cap ** 2 + value[i]! ** 2 * computeVariance;
    if (block.jump) block.jump[i]! *= cap;
  }
}

/** What storing a step adds: a rounding of its own, or under a recipe a flip to the other neighbour. */
function stepNoise(block: MutableBlock, store: OpContext["precision"]["store"], emulated: boolean): void {
  for (let i = 0; i < block.value.length; i++) {
    const value = block.value[i]!;
    if (!emulated) {
      block.variance[i]! += storeVariance(value, store);
      continue;
    }
    block.variance[i] = storedVariance(block, i, value, block.variance[i]!, store);
  }
}
