/** Bins on either side of 0: 1, 2, up to 4, up to 8, … ulps; the last one holds all that is further. */
export const binsEachSide = 13;
/** Bins in all: negative ones, 0, positive ones, and what is not finite. */
export const binCount = 2 * binsEachSide + 2;

/** The bin of a distance in ulps: 0 in the middle, further outwards by powers of two. */
export function ulpBin(ulps: number): number {
  if (!Number.isFinite(ulps)) return binCount - 1;
  if (ulps === 0) return binsEachSide;
  const away = Math.min(binsEachSide, 1 + Math.ceil(Math.log2(Math.max(1, Math.abs(ulps)))));
  return ulps < 0 ? binsEachSide - away : binsEachSide + away;
}

/** "0", "1", "2", "≤ 4", …, with their sign. */
export function binLabel(bin: number): string {
  if (bin === binCount - 1) return "not finite";
  const away = Math.abs(bin - binsEachSide);
  if (away === 0) return "0";
  const sign = bin < binsEachSide ? "−" : "+";
  if (away <= 2) return `${sign}${away}`;
  return away === binsEachSide
    ? `beyond ${sign}${2 ** (away - 2)}`
    : `${sign}${2 ** (away - 2) + 1} to ${sign}${2 ** (away - 1)}`;
}
