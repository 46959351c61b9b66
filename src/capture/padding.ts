import { InputError } from "../tensor/errors.js";
import type { Capture } from "./capture.js";
import type { StepEvent } from "./format.js";

/** Where the real tokens of a padded batch lie. Its values keep the shape [batch, tokens, …], pads included. */
export interface Padding {
  /** Tokens per padded row. */
  readonly tokens: number;
  /** Place of each row of the step in the padded batch: sequence × tokens + column. */
  readonly places: Int32Array;
}

/** A step without its pad tokens, and where they were; `padding` is undefined when there are none. */
export interface PaddedStep {
  readonly step: StepEvent;
  readonly padding: Padding | undefined;
}

/**
 * Takes the pad tokens out of a step of equally long rows: its rows are the real tokens alone.
 * @param mask [batch, tokens], 1 for a token and 0 for padding.
 * @param where file and field for errors.
 * @throws InputError when a sequence has no real token, or padding between its real tokens.
 */
export function withoutPads(step: StepEvent, mask: ArrayLike<number>, where: string): PaddedStep {
  const batch = step.seq_ids.length;
  const tokens = step.token_ids.length / batch;
  const places: number[] = [];
  const indptr = [0];
  for (let b = 0; b < batch; b++) {
    for (let column = 0; column < tokens; column++) {
      const place = b * tokens + column;
      if (mask[place] === 0) continue;
      if (places.length > indptr[b]! && places.at(-1)! !== place - 1) {
        throw new InputError(
          `${where}: expected the tokens of sequence ${b} side by side with padding around them, found padding at column ${column - 1} between them`,
        );
      }
      places.push(place);
    }
    if (places.length === indptr[b]) {
      throw new InputError(`${where}: expected at least one token per sequence, found padding alone in sequence ${b}`);
    }
    indptr.push(places.length);
  }
  if (places.length === step.token_ids.length) return { step, padding: undefined };
  return {
    step: {
      ...step,
      token_ids: places.map((place) => step.token_ids[place]!),
      qo_indptr: indptr,
      ...(step.positions && { positions: places.map((place) => step.positions![place]!) }),
    },
    padding: { tokens, places: Int32Array.from(places) },
  };
}

/** Column of each row in its padded row. */
export function columnsOf({ tokens, places }: Padding): Int32Array {
  return places.map((place) => place % tokens);
}

/**
 * The same plain recording under a mask it does not hold itself. Both share their files: closing one closes both.
 * @throws InputError as for a mask in the file.
 */
export function withMask(capture: Capture, mask: ArrayLike<number>): Capture {
  const { step, padding } = withoutPads(capture.steps[0]!, mask, `${capture.path}: attention_mask`);
  return { ...capture, steps: [step], padding };
}
