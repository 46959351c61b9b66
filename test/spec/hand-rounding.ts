/** Every positive number of e4m3, in order: its place there is its code. */
export const e4m3 = Array.from({ length: 127 }, (_, code) => {
  const [exponent, mantissa] = [code >> 3, code & 7];
  return exponent === 0 ? mantissa * 2 ** -9 : (1 + mantissa / 8) * 2 ** (exponent - 7);
});

/** Ties to even; what is larger becomes the largest. */
export function nearestE4m3(x: number): number {
  const size = Math.min(448, Math.abs(x));
  let above = e4m3.findIndex((number) => number >= size);
  if (above > 0) {
    const below = above - 1;
    const [up, down] = [e4m3[above]! - size, size - e4m3[below]!];
    if (down < up || (down === up && below % 2 === 0)) above = below;
  }
  return Math.sign(x) * e4m3[above]!;
}

/** Ties to even. */
export function nearestFloat16(x: number): number {
  const ulp = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(x) || 1))) - 10);
  const scaled = Math.abs(x) / ulp;
  const whole = Math.floor(scaled);
  const rest = scaled - whole;
  const up = rest > 0.5 || (rest === 0.5 && whole % 2 === 1);
  return Math.sign(x) * (whole + (up ? 1 : 0)) * ulp;
}
