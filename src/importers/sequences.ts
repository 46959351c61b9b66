/** A sequence's tokens in one step: where they begin, and how many there are. */
export interface Stretch {
  /** Position of the first one. */
  readonly start: number;
  readonly count: number;
  /** What the runtime calls the sequence, where it was recorded. */
  readonly id?: number | undefined;
}

/** What a step's stretch belongs to. */
export interface Continuation {
  /** Ours: distinct over the whole recording. */
  readonly sequence: number;
  /** Whether its tokens before this step were recorded. */
  readonly isWhole: boolean;
}

/**
 * Which sequences go on from step to step. A stretch goes on where the runtime's own name and the length fit, or where no
 * other sequence has that length; where several have it, it is one of which the beginning is not known.
 */
export class Sequences {
  #next = 0;
  /** Tokens of each sequence so far, and what the runtime calls it. */
  readonly #known = new Map<number, { length: number; id: number | undefined }>();

  /** The sequences of the next step. */
  follow(stretches: readonly Stretch[]): Continuation[] {
    const found = stretches.map((stretch): Continuation => {
      if (stretch.start === 0) return { sequence: this.#next++, isWhole: true };
      const fitting = [...this.#known].filter(
        ([, { length, id }]) => length === stretch.start && (stretch.id === undefined || id === stretch.id),
      );
      const rivals = stretches.filter(({ start, id }) => start === stretch.start && id === stretch.id);
      if (fitting.length === 1 && rivals.length === 1) return { sequence: fitting[0]![0], isWhole: true };
      return { sequence: this.#next++, isWhole: false };
    });
    found.forEach(({ sequence }, b) => {
      const { start, count, id } = stretches[b]!;
      // A name that is used again is another sequence's from now on.
      if (id !== undefined)
        for (const [other, known] of this.#known) if (known.id === id && other !== sequence) this.#known.delete(other);
      this.#known.set(sequence, { length: start + count, id });
    });
    return found;
  }
}
