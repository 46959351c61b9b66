const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

function ofBits(bits: number): number {
  word[0] = bits;
  return float[0]!;
}

const log2e = ofBits(0x3fb8aa3b);
const smallest = ofBits(0xc2aeac50);
const coefficients = [-0.22433836478672356, 0.30354260500649682, 0.00010703434948458272].map(Math.fround);
const leading = Math.fround(-0.079204240219773236);

/**
 * Second moment, relative, of what the last bits of x may turn over: the bits of the result are a float32 number near 2^30,
 * a multiple of 64, so that it moves in steps of 2^-17.
 */
export const fastExponentialVariance = 2 ** -34;

/**
 * exp(x) for x <= 0 as PyTorch's flash attention on the CPU computes it for whole vectors of float32 numbers: a cubic on
 * the fraction of x·log2(e), off by up to 1.1e-4 of the result, exp(0) = 0.99995 included.
 * at::vec::Vectorized<float>::fexp_u20, after Malossi et al., "Fast exponential computation on SIMD architectures", 2015.
 */
export function fastExponential(x: number): number {
  if (x < smallest) return 0;
  const y = Math.fround(Math.fround(Math.max(x, -200)) * log2e);
  const fraction = Math.fround(y - Math.floor(y));
  let correction = leading;
  for (const c of coefficients) correction = Math.fround(fraction * correction + c);
  const bits = Math.fround(2 ** 23 * Math.fround(y - correction) + 2 ** 23 * 127);
  return ofBits(Math.trunc(bits));
}
