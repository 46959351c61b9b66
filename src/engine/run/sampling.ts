/** How one sequence's next token is chosen. */
export interface Sampling {
  /** 0: the most likely token. */
  readonly temperature: number;
  /** Nucleus: the most likely tokens whose probability reaches this; 1 for all. */
  readonly topP: number;
  /** The draw is a function of seed, position and token alone. */
  readonly seed: number;
}

export const greedy: Sampling = { temperature: 0, topP: 1, seed: 0 };
