import type { Sampling } from "../run/sampling.js";

export interface Chosen {
  /** 0 when no logit is finite. */
  readonly token: number;
  /** Whether all logits were finite: NaN and infinity are never chosen, but they are a fault worth telling. */
  readonly finite: boolean;
}

/**
 * The next token of one sequence from its logits [vocabulary]: the largest one, the lowest on ties, or at a temperature
 * a draw from softmax(logits / temperature) restricted to the nucleus. The draw adds Gumbel noise that depends on seed,
 * position and token alone (kernels/sampling.wgsl uses the same numbers), so a run repeats whatever it is batched with.
 * @param position of the token the logits belong to.
 */
export function chooseToken(logits: ArrayLike<number>, sampling: Sampling, position: number): Chosen {
  const { temperature, topP, seed } = sampling;
  const threshold = temperature > 0 && topP < 1 ? nucleusThreshold(logits, temperature, topP) : -Infinity;
  let token = -1;
  let best = -Infinity;
  let finite = true;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i]!;
    if (!Number.isFinite(logit)) {
      finite = false;
      continue;
    }
    if (logit < threshold) continue;
    const value = temperature > 0 ? logit / temperature + gumbel(seed, position, i) : logit;
    if (token < 0 || value > best) {
      best = value;
      token = i;
    }
  }
  return { token: Math.max(token, 0), finite };
}

/** Least logit of the smallest set of most likely tokens whose probability reaches `topP` (Holtzman et al., 2019). */
function nucleusThreshold(logits: ArrayLike<number>, temperature: number, topP: number): number {
  const sorted = Float64Array.from(logits).filter(Number.isFinite).sort().reverse();
  const top = sorted[0] ?? 0;
  const mass = sorted.map((logit) => Math.exp((logit - top) / temperature));
  const wanted = topP * mass.reduce((sum, p) => sum + p, 0);
  let reached = 0;
  for (let i = 0; i < mass.length; i++) {
    reached += mass[i]!;
    if (reached >= wanted) return sorted[i]!;
  }
  return -Infinity;
}

/** "lowbias32" of Chris Wellons' hash-prospector: a 32-bit mix. */
function mix(seed: number): number {
  let x = seed >>> 0;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d) >>> 0;
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b) >>> 0;
  return (x ^ (x >>> 16)) >>> 0;
}

/** -log of an exponential variate: adding it to log-probabilities and taking the greatest draws from them. */
function gumbel(seed: number, position: number, token: number): number {
  const bits = mix(mix(mix(seed) + position) ^ Math.imul(token, 0x9e3779b9));
  const v = Math.fround(Math.fround(bits) + 0.5) * 2 ** -32;
  return -Math.log(Math.max(-Math.log1p(-Math.min(v, 1 - 2 ** -25)), 1e-30));
}
