import { InputError } from "../tensor/errors.js";
import type { Capture } from "./capture.js";
import type { StepEvent } from "./format.js";

const maxPlaces = 2 ** 22;

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

/**
 * Where the rows of padded steps lie, by number of the step; undefined when no step is padded.
 * @param where file for errors.
 * @throws InputError when a row map does not fit its step.
 */
export function paddingsOf(steps: readonly StepEvent[], where: string): ReadonlyMap<number, Padding> | undefined {
  const padded = steps.filter(({ padded, row_map: map }) => padded || map);
  for (const step of padded) checkRowMap(step, `${where}: step ${step.step}`);
  if (padded.length === 0) return undefined;
  return new Map(
    padded.map(({ step, padded, row_map: map }) => [step, { tokens: padded![1], places: Int32Array.from(map!) }]),
  );
}

function checkRowMap({ padded, row_map: map, seq_ids: ids, token_ids, qo_indptr: indptr }: StepEvent, where: string) {
  if (!padded || !map) throw new InputError(`${where}: expected padded and row_map together, found one of them`);
  const [sequences, columns] = padded;
  if (sequences * columns > maxPlaces)
    throw new InputError(`${where}: padded: expected at most ${maxPlaces} places, found ${sequences} × ${columns}`);
  if (sequences !== ids.length)
    throw new InputError(`${where}: padded: expected the step's ${ids.length} sequences, found ${sequences}`);
  if (map.length !== token_ids.length)
    throw new InputError(
      `${where}: row_map: expected a place for each of ${token_ids.length} rows, found ${map.length}`,
    );
  for (let b = 0; b < sequences; b++) {
    for (let row = indptr[b]!; row < indptr[b + 1]!; row++) {
      const place = map[row]!;
      const follows = row === indptr[b] || place === map[row - 1]! + 1;
      if (follows && Math.floor(place / columns) === b) continue;
      throw new InputError(
        `${where}: row_map: expected the rows of sequence ${b} side by side at places ${b * columns} to ${(b + 1) * columns - 1}, found ${place}`,
      );
    }
  }
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
  return { ...capture, steps: [step], paddings: padding && new Map([[step.step, padding]]) };
}
