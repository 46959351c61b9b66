/** Shares of elements that training drops. */
export const dropShares = [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5];

/** A share of dropped elements further than this many standard errors from the named one is another. */
const farthest = 5;

/** Whether so many of `count` are a random `share`. */
export function isShare(share: number, dropped: number, count: number): boolean {
  return Math.abs(dropped - share * count) <= farthest * Math.sqrt(share * (1 - share) * count);
}
