import type { Step } from "../../spec/rows.js";
import { promptSteps, randomSteps } from "../batch.js";
import { choose, integer } from "../fault.js";

/** A kind of text that a run is made on: random ones hide what repetition shows. */
export interface Text {
  readonly id: string;
  /** Whether a plain recording can hold it: one step of sequences of equal length. */
  readonly plain: boolean;
  /** Whether its sequences are unequal, so that a plain batch has to pad them. */
  readonly ragged?: boolean;
  /** @param longest tokens of a sequence at most */
  steps(random: () => number, vocabularySize: number, longest: number): Step[];
}

export const texts: readonly Text[] = [
  {
    id: "random",
    plain: true,
    steps: (random, vocabulary, longest) => randomSteps(random, vocabulary, [[integer(random, 1, longest)]]),
  },
  {
    id: "one token, repeated",
    plain: true,
    steps: (random, vocabulary, longest) => {
      const token = integer(random, 0, vocabulary - 1);
      return promptSteps([Array<number>(integer(random, 2, longest)).fill(token)]);
    },
  },
  {
    id: "a phrase, repeated",
    plain: true,
    steps: (random, vocabulary, longest) => {
      const phrase = tokens(random, vocabulary, integer(random, 2, 4));
      return promptSteps([Array.from({ length: longest }, (_, i) => phrase[i % phrase.length]!)]);
    },
  },
  {
    id: "the same prompt in every sequence",
    plain: true,
    steps: (random, vocabulary, longest) => {
      const prompt = tokens(random, vocabulary, integer(random, 1, Math.min(longest, 9)));
      return promptSteps(Array<number[]>(choose(random, [2, 5, 16])).fill(prompt));
    },
  },
  {
    id: "prompts with a common prefix",
    plain: true,
    steps: (random, vocabulary, longest) => {
      const prefix = tokens(random, vocabulary, Math.max(1, longest - 3));
      return promptSteps([1, 2, 3].map(() => [...prefix, ...tokens(random, vocabulary, 3)]));
    },
  },
  {
    id: "prompts of unequal length",
    plain: false,
    ragged: true,
    steps: (random, vocabulary, longest) =>
      randomSteps(random, vocabulary, [Array.from({ length: 4 }, () => integer(random, 1, longest))]),
  },
  {
    id: "prefill and decode",
    plain: false,
    steps: (random, vocabulary, longest) => {
      const lengths = [integer(random, 1, longest), integer(random, 1, longest)];
      return randomSteps(random, vocabulary, [lengths, [1, 1], [1, 1]]);
    },
  },
  {
    id: "prefill in chunks",
    plain: false,
    steps: (random, vocabulary, longest) => {
      const part = Math.max(1, longest >> 1);
      return randomSteps(random, vocabulary, [
        [part, integer(random, 1, part)],
        [integer(random, 1, part), 1],
        [1, part],
      ]);
    },
  },
];

function tokens(random: () => number, vocabularySize: number, count: number): number[] {
  return Array.from({ length: count }, () => integer(random, 0, vocabularySize - 1));
}
