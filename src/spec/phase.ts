/** How the rows of a sequence come in a step: its first ones, several behind cached ones, one, one beside longer sequences. */
const strides = ["prefill", "extend", "decode", "mixed decode"] as const;

/**
 * What a row's step asks of kernels, by the recording alone. Serving stacks have a kernel for each: rows of one phase round
 * alike. Masked steps are those that attention was given a mask for, or that are padded.
 */
export type Phase = (typeof strides)[number] | `masked ${(typeof strides)[number]}`;

export const phases: readonly Phase[] = [...strides, ...strides.map((stride): Phase => `masked ${stride}`)];

/** What a step shows of one sequence. */
export interface SequenceInStep {
  /** Rows of the sequence in the step, and of the sequence that has most of them. */
  readonly queries: number;
  readonly mostQueries: number;
  /** Its keys after the step. */
  readonly keys: number;
  readonly masked: boolean;
}

export function phaseOf({ queries, mostQueries, keys, masked }: SequenceInStep): Phase {
  const several = keys > queries ? "extend" : "prefill";
  const one = mostQueries > 1 ? "mixed decode" : "decode";
  const stride = queries > 1 ? several : one;
  return masked ? `masked ${stride}` : stride;
}
