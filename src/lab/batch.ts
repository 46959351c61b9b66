import type { Step } from "../spec/rows.js";
import type { Situation } from "./fault.js";

/** Tokens each sequence adds in each step: lengths[step][sequence]. */
export type BatchLengths = readonly (readonly number[])[];

/** Runs that show what a fault needs to be seen: sequences, chunks, decode steps. */
export function lengthsFor(situation: Situation): BatchLengths {
  switch (situation) {
    case "any":
      return [[24]];
    case "long":
      return [[280]];
    case "ranks":
      return [[8, 5]];
    case "last-token":
    case "several-sequences":
      return [[17, 9, 12, 1]];
    case "chunked":
      return [
        [13, 8],
        [9, 1],
        [1, 11],
      ];
    case "paged":
    case "decode-batch":
      return [
        [12, 7, 9],
        [1, 1, 1],
        [1, 1, 1],
      ];
  }
}

/** Steps of random tokens: the same generator gives the same text. */
export function randomSteps(random: () => number, vocabularySize: number, lengths: BatchLengths): Step[] {
  return lengths.map((counts, step) => {
    const qoIndptr = [0];
    for (const count of counts) qoIndptr.push(qoIndptr.at(-1)! + count);
    return {
      step,
      seqIds: counts.map((_, sequence) => sequence),
      tokenIds: Array.from({ length: qoIndptr.at(-1)! }, () => Math.floor(random() * vocabularySize)),
      qoIndptr,
    };
  });
}

/** One step with the given prompts, one sequence each. */
export function promptSteps(prompts: readonly (readonly number[])[]): Step[] {
  const qoIndptr = [0];
  for (const prompt of prompts) qoIndptr.push(qoIndptr.at(-1)! + prompt.length);
  return [{ step: 0, seqIds: prompts.map((_, sequence) => sequence), tokenIds: prompts.flat(), qoIndptr }];
}
