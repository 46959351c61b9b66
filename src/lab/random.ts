export { randomGenerator, seedOf } from "../diagnose/bits/sample.js";

/** A standard normal draw (Box and Muller, 1958). */
export function gaussian(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}
