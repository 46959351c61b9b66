import type { StepEvent } from "../capture/format.js";
import { type PaddedStep, type Padding, withoutPads } from "../capture/padding.js";
import { InputError } from "../tensor/errors.js";
import type { Dump, TokenTensors } from "./dump.js";
import type { NameMap } from "./names-file.js";
import { Sequences, type Stretch } from "./sequences.js";
import { type IntegerTensor, readIntegers, tensorAt } from "./token-tensors.js";

/** The steps of a dump, those of which the tokens are known. */
export interface DumpSteps {
  readonly steps: readonly StepEvent[];
  readonly paddings: ReadonlyMap<number, Padding> | undefined;
  /** Whether it is one pass of equally long rows, as modules return them: they may be padded. */
  readonly isBatch: boolean;
}

/**
 * Which tokens each step of a dump computed, and for which sequences.
 * @throws InputError when nothing says so, or what says so contradicts itself.
 */
export function stepsOf(dump: Dump, names: Pick<NameMap, "tokens" | "token_ids">): DumpSteps {
  if (dump.steps || names.token_ids)
    return { steps: givenSteps(dump, names.token_ids ?? {}), paddings: undefined, isBatch: false };
  const tokens = names.tokens ?? dump.tokens;
  if (!tokens)
    throw new InputError(
      `${dump.path}: expected a tensor with the token ids of the run; name it as tokens.input_ids in a file of names`,
    );
  const numbers = [...new Set(dump.tensors.map(({ step }) => step))].sort((a, b) => a - b);
  const withTokens = numbers.filter((step) => tensorAt(dump, tokens.input_ids, step));
  if (withTokens.length === 0)
    throw new InputError(`${dump.path}: tokens.input_ids: expected a tensor "${tokens.input_ids}", found none`);
  const sequences = new Sequences();
  const read = withTokens.map((step) => readStep(dump, tokens, step, sequences, withTokens.length === 1));
  const isOne = read.length === 1;
  const isBatch = isOne && tensorAt(dump, tokens.input_ids, withTokens[0]!)!.shape.length === 2;
  const padded = read.filter(({ padding }) => padding !== undefined);
  const paddings = padded.length > 0 ? new Map(padded.map(({ step, padding }) => [step.step, padding!])) : undefined;
  return { steps: read.map(({ step }) => step), paddings: isOne ? paddings : undefined, isBatch };
}

function givenSteps(dump: Dump, tokenIds: Readonly<Record<string, readonly number[]>>): StepEvent[] {
  const known =
    dump.steps ?? Object.entries(tokenIds).map(([step, ids]) => ({ step: Number(step), ...oneSequence(ids) }));
  const steps = known
    .filter(({ step }) => Object.hasOwn(tokenIds, String(step)))
    .map((step) => ({ event: "step" as const, ...step, token_ids: [...tokenIds[String(step.step)]!] }) as StepEvent)
    .sort((a, b) => a.step - b.step);
  if (steps.length === 0)
    throw new InputError(
      `${dump.path}: expected the tokens of its steps, which it does not hold: faultline names finds them where the embeddings were recorded; else write them as token_ids in the file of names`,
    );
  for (const { step, token_ids: ids, qo_indptr: indptr } of steps)
    if (ids.length !== indptr.at(-1))
      throw new InputError(
        `${dump.path}: token_ids of step ${step}: expected ${indptr.at(-1)} tokens, found ${ids.length}`,
      );
  return steps;
}

function oneSequence(ids: readonly number[]) {
  return { seq_ids: [0], qo_indptr: [0, ids.length] };
}

function readStep(dump: Dump, tokens: TokenTensors, step: number, sequences: Sequences, alone: boolean): PaddedStep {
  const read = (name: string | undefined): IntegerTensor | undefined => {
    const tensor = tensorAt(dump, name, step);
    return tensor && readIntegers(dump, tensor);
  };
  const ids = read(tokens.input_ids)!;
  const where = (field: string) => `${dump.path}: ${field} of step ${step}`;
  const batch = ids.shape.length === 2 ? ids.shape[0]! : 1;
  const tokensEach = ids.values.length / batch;
  const positions = positionsOf(read(tokens.positions), ids.values.length, tokensEach, where("positions"));
  const lengths = read(tokens.lengths)?.values;
  const mask = read(tokens.attention_mask);
  if (!alone && (!positions || mask))
    throw new InputError(
      `${where("positions")}: expected one for every token, and no mask, in a dump of several steps`,
    );
  const sequenceIds = read(tokens.sequences)?.values;
  const isRagged = ids.shape.length === 1 && lengths !== undefined && positions !== undefined;
  const counts = isRagged
    ? raggedCounts(lengths, positions, where("lengths"))
    : Array.from({ length: batch }, () => tokensEach);
  const indptr = [0];
  for (const count of counts) indptr.push(indptr.at(-1)! + count);
  const stretches: Stretch[] = counts.map((count, b) => ({
    start: alone && !isRagged ? 0 : positions![indptr[b]!]!,
    count,
    id: sequenceIds?.length === counts.length ? sequenceIds[b] : undefined,
  }));
  const followed = sequences.follow(stretches);
  const event: StepEvent = {
    event: "step",
    step,
    seq_ids: followed.map(({ sequence }) => sequence),
    token_ids: [...ids.values],
    qo_indptr: indptr,
    ...(positions && { positions }),
    ...(followed.some(({ isWhole }) => !isWhole) && keysOf(stretches)),
  };
  const masked = mask
    ? withoutPads(event, maskOf(mask, ids, where("attention_mask")), where("attention_mask"))
    : { step: event, padding: undefined };
  if (masked.step.token_ids.some((id) => id < 0))
    throw new InputError(`${where("input_ids")}: expected ids of 0 or more`);
  return masked;
}

/** Tokens of each sequence: those from the first one's position up to its length. */
function raggedCounts(lengths: readonly number[], positions: readonly number[], where: string): number[] {
  let row = 0;
  const counts = lengths.map((length) => {
    const count = length - (positions[row] ?? Number.NaN);
    if (!(count >= 1 && row + count <= positions.length))
      throw new InputError(`${where}: expected each sequence to end in the step's ${positions.length} positions`);
    row += count;
    return count;
  });
  if (row !== positions.length)
    throw new InputError(`${where}: expected the sequences to have ${positions.length} tokens in all, found ${row}`);
  return counts;
}

/** Keys before the step, as a page table of single slots says it: of a sequence whose beginning was not recorded. */
function keysOf(stretches: readonly Stretch[]) {
  const indptr = [0];
  for (const { start, count } of stretches) indptr.push(indptr.at(-1)! + start + count);
  return { kv_indptr: indptr, kv_last_page_len: stretches.map(() => 1), page_size: 1 };
}

function positionsOf(
  found: IntegerTensor | undefined,
  count: number,
  each: number,
  where: string,
): number[] | undefined {
  if (!found) return undefined;
  const { values } = found;
  if (values.length === count) return [...values];
  if (values.length === each) return Array.from({ length: count }, (_, i) => values[i % each]!);
  throw new InputError(`${where}: expected ${count} or ${each} numbers, found ${values.length}`);
}

function maskOf(mask: IntegerTensor, ids: IntegerTensor, where: string): readonly number[] {
  const other = mask.values.find((value) => value !== 0 && value !== 1);
  if (mask.values.length !== ids.values.length || other !== undefined)
    throw new InputError(`${where}: expected 1 for a token and 0 for padding in the shape of input_ids`);
  return mask.values;
}
