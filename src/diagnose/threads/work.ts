import type { Shares } from "../check/coverage.js";

/** Batches of units that several threads take in turn: each takes the next one when it is done with its own. */
export interface Work {
  readonly batches: readonly (readonly string[])[];
  readonly shares: Shares;
  /** How many batches are taken: one number that all threads share. */
  readonly taken: Int32Array;
}

export function workOf(batches: readonly (readonly string[])[], shares: Shares): Work {
  return { batches, shares, taken: new Int32Array(new SharedArrayBuffer(4)) };
}

/** The batches that nobody has taken yet, until there are none. */
export function* take({ batches, taken }: Work): Generator<readonly string[]> {
  for (let i = Atomics.add(taken, 0, 1); i < batches.length; i = Atomics.add(taken, 0, 1)) yield batches[i]!;
}

/** Has nobody take any more. */
export function stop({ batches, taken }: Work): void {
  Atomics.store(taken, 0, batches.length);
}
