/** Pieces of work that several threads take in turn: each takes the next one when it is done with its own. */
export interface Work<T> {
  readonly pieces: readonly T[];
  /** How many are taken: one number that all threads share. */
  readonly taken: Int32Array;
}

export function workOf<T>(pieces: readonly T[]): Work<T> {
  return { pieces, taken: new Int32Array(new SharedArrayBuffer(4)) };
}

/** The pieces that nobody has taken yet, until there are none. */
export function* take<T>({ pieces, taken }: Work<T>): Generator<T> {
  for (let i = Atomics.add(taken, 0, 1); i < pieces.length; i = Atomics.add(taken, 0, 1)) yield pieces[i]!;
}

/** Has nobody take any more. */
export function stop({ pieces, taken }: Work<unknown>): void {
  Atomics.store(taken, 0, pieces.length);
}
