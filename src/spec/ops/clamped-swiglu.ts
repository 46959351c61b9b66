import { roundTo } from "../../tensor/dtype.js";
import { computeVariance, flipVariance, storeVariance } from "../noise.js";
import { emptyBlock, type Op, raiseJump, scaled, usableVariance } from "../op.js";
import type { Recipe } from "../recipe.js";

export interface ClampedSwigluAttributes {
  /** Steepness of the sigmoid: swiglu_alpha. */
  readonly alpha: number;
  /** The gate is cut above it, up at both sides; undefined where a rewrite cuts nothing. */
  readonly limit: number | undefined;
  /** Added to up: 1. */
  readonly shift?: number;
}

export const clampedSwigluRecipes: readonly Recipe[] = [
  {
    id: "every-step",
    title: "every step is rounded",
    known: ["Hugging Face"],
    settings: { steps: true },
  },
  {
    id: "float32",
    title: "float32 throughout, one rounding",
    known: ["fused kernels"],
    settings: { steps: false },
  },
];

/**
 * (up + 1) · gate · σ(alpha · gate) of clamped inputs gate and up, element-wise: gpt-oss, after Shazeer, "GLU variants improve
 * transformer", 2020.
 */
export function clampedSwiglu(attributes: ClampedSwigluAttributes): Op {
  const { alpha, limit = Infinity, shift = 1 } = attributes;
  return {
    kind: "clamped-swiglu",
    attributes: { ...attributes },
    recipes: clampedSwigluRecipes,
    evaluate({ input, noise, rounding, precision }, rows, columns) {
      const gate = input(0, rows, columns);
      const up = input(1, rows, columns);
      const out = emptyBlock(rows.length * columns.length, noise);
      const steps = rounding?.settings.steps === true;
      const store = (x: number) => (steps ? roundTo(x, rounding!.store) : x);
      for (let i = 0; i < out.value.length; i++) {
        const g = Math.min(gate.value[i]!, limit);
        const u = Math.min(Math.max(up.value[i]!, -limit), limit);
        const exact = 1 / (1 + Math.exp(-store(alpha * g)));
        const sigmoid = store(exact);
        const glu = store(g * sigmoid);
        const shifted = store(u + shift);
        out.value[i] = shifted * glu;
        if (!noise) continue;
        const ofGate = gate.value[i]! > limit ? 0 : shifted * sigmoid * (1 + alpha * g * (1 - sigmoid));
        const ofUp = Math.abs(up.value[i]!) > limit ? 0 : glu;
        const library = out.value[i]! ** 2 * computeVariance * (3 + 2 * Math.abs(alpha * g)) ** 2;
        out.variance[i] =
          scaled(ofGate * ofGate, usableVariance(gate, i)) + scaled(ofUp * ofUp, usableVariance(up, i)) + library;
        if (gate.jump) raiseJump(out, i, Math.abs(ofGate) * gate.jump[i]!);
        if (up.jump) raiseJump(out, i, Math.abs(ofUp) * up.jump[i]!);
        if (steps) {
          const ofSigmoid = flipVariance(
            exact,
            (sigmoid * (3 + 2 * Math.abs(alpha * g))) ** 2 * computeVariance,
            rounding!.store,
          );
          out.variance[i]! += (shifted * g) ** 2 * ofSigmoid;
          if (ofSigmoid > 0) raiseJump(out, i, Math.abs(shifted * g) * 2 * Math.sqrt(ofSigmoid));
        }
        // Each step may have been stored.
        if (!rounding) out.variance[i]! += 4 * storeVariance(out.value[i]!, precision.store);
      }
      return out;
    },
  };
}
