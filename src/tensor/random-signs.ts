/** Reproducible signs, 1 or -1, of output columns [count]: xorshift32, Marsaglia, "Xorshift RNGs", 2003. */
export function randomSigns(seed: number, count: number): Int8Array {
  const signs = new Int8Array(count);
  // Seeds side by side are to give unlike signs, and the state must not be 0.
  let state = Math.imul(seed ^ 0x5bf03635, 0x9e3779b1) || 1;
  for (let i = 0; i < count; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    signs[i] = state < 0 ? -1 : 1;
  }
  return signs;
}
