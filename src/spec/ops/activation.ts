import { computeVariance, functionVariance } from "../noise.js";
import { emptyBlock, type Op, raiseJump, scaled, usableVariance } from "../op.js";

export const activations = {
  silu: (x: number) => x / (1 + Math.exp(-x)),
  gelu: (x: number) => 0.5 * x * (1 + errorFunction(x / Math.SQRT2)),
  gelu_pytorch_tanh: (x: number) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3))),
  relu: (x: number) => Math.max(x, 0),
  relu2: (x: number) => Math.max(x, 0) ** 2,
  relu6: (x: number) => Math.min(Math.max(x, 0), 6),
  leaky_relu: (x: number) => (x > 0 ? x : 0.01 * x),
  quick_gelu: (x: number) => x / (1 + Math.exp(-1.702 * x)),
  mish: (x: number) => x * Math.tanh(Math.log1p(Math.exp(x))),
  tanh: Math.tanh,
  sigmoid: (x: number) => 1 / (1 + Math.exp(-x)),
  identity: (x: number) => x,
} as const;

/** Activations whose sum of 1 and a function cancels. */
const cancels: ReadonlySet<string> = new Set(["gelu", "gelu_pytorch_tanh"]);

export type ActivationName = keyof typeof activations;

/** The activation of a gated MLP, element-wise. SiLU: Elfwing et al., 2017; GELU: Hendrycks and Gimpel, 2016. */
export function activation(name: ActivationName): Op {
  const f = activations[name];
  return {
    kind: "activation",
    attributes: { activation: name },
    evaluate({ input, noise }, rows, columns) {
      const x = input(0, rows, columns);
      const out = emptyBlock(rows.length * columns.length, noise);
      apply(f, x.value, out.value);
      if (!noise) return out;
      for (let i = 0; i < out.value.length; i++) {
        const xi = x.value[i]!;
        // exp may be off by 3 + 2|x| ulp (WGSL), so the relative error grows with the argument.
        const step = Math.max(1e-4 * Math.abs(xi), 1e-6);
        const slope = (f(xi + step) - f(xi - step)) / (2 * step);
        out.variance[i] =
          scaled(slope * slope, usableVariance(x, i)) +
          out.value[i]! ** 2 * computeVariance * (3 + 2 * Math.abs(xi)) ** 2;
        // 1 + tanh and 1 + erf cancel where x is negative: their error is one of 1, not of the sum.
        if (cancels.has(name)) out.variance[i]! += (xi / 2) ** 2 * functionVariance;
        if (x.jump) raiseJump(out, i, Math.abs(slope) * x.jump[i]!);
      }
      return out;
    },
  };
}

/** A loop of its own is compiled on its own. */
function apply(f: (x: number) => number, x: Float64Array, out: Float64Array): void {
  for (let i = 0; i < out.length; i++) out[i] = f(x[i]!);
}

/** erf to 1.2e-7: Numerical Recipes' Chebyshev form of erfc. */
function errorFunction(x: number): number {
  const t = 1 / (1 + 0.5 * Math.abs(x));
  const coefficients = [
    -1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223,
    0.17087277,
  ];
  const polynomial = coefficients.reduceRight((sum, coefficient) => sum * t + coefficient, 0);
  const erfc = t * Math.exp(-x * x + polynomial);
  return x >= 0 ? 1 - erfc : erfc - 1;
}
