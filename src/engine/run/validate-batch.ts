import type { Batch } from "./batch.js";
import { validatePageTable } from "./page-table.js";
import type { DecodeOptions } from "./path.js";

interface Limits {
  readonly pageCount: number;
  readonly pageSize: number;
  readonly maxRows: number;
  readonly maxSequences: number;
  readonly config: { readonly vocabularySize: number; readonly maxPositions: number };
}

/**
 * Checks every array of a batch before anything is dispatched; a page out of range would be another sequence's memory.
 * @returns [sequences] keys of each sequence.
 * @throws RangeError naming the array, the entry and what was expected.
 */
export function validateBatch(batch: Batch, limits: Limits, decode?: DecodeOptions): Int32Array {
  const rows = batch.tokenIds.length;
  const sequences = batch.seqIds.length;
  if (sequences === 0 || rows === 0) throw new RangeError("a batch needs at least one sequence and one row");
  if (rows > limits.maxRows) throw new RangeError(`the batch has ${rows} rows, at most ${limits.maxRows} fit`);
  if (sequences > limits.maxSequences) {
    throw new RangeError(`the batch has ${sequences} sequences, at most ${limits.maxSequences} fit`);
  }
  if (batch.pageSize !== limits.pageSize) {
    throw new RangeError(`pageSize: expected ${limits.pageSize}, found ${batch.pageSize}`);
  }
  const lengths = validatePageTable(
    { indptr: batch.kvIndptr, indices: batch.kvIndices, lastPageLen: batch.kvLastPageLen, pageSize: batch.pageSize },
    sequences,
    limits.pageCount,
  );
  expectLength("positions", batch.positions, rows);
  expectLength("slotMapping", batch.slotMapping, rows);
  expectLength("qoIndptr", batch.qoIndptr, sequences + 1);
  if (batch.qoIndptr[0] !== 0 || batch.qoIndptr[sequences] !== rows) {
    throw new RangeError(`qoIndptr: expected to run from 0 to ${rows}`);
  }
  for (let b = 0; b < sequences; b++) {
    const count = batch.qoIndptr[b + 1]! - batch.qoIndptr[b]!;
    if (count <= 0)
      throw new RangeError(`qoIndptr[${b + 1}]: expected more than ${batch.qoIndptr[b]}, one row at least`);
    if (count > lengths[b]!) {
      throw new RangeError(
        `sequence ${b} has ${count} rows but only ${lengths[b]} keys: the page table must include them`,
      );
    }
  }
  for (let i = 0; i < rows; i++) {
    expectBelow("tokenIds", i, batch.tokenIds[i]!, limits.config.vocabularySize);
    expectBelow(
      "positions",
      i,
      batch.positions[i]!,
      Math.min(limits.config.maxPositions, limits.pageCount * limits.pageSize),
    );
    expectBelow("slotMapping", i, batch.slotMapping[i]!, limits.pageCount * limits.pageSize);
  }
  if (decode) validateFlight(batch, limits, decode, lengths);
  return lengths;
}

function validateFlight(batch: Batch, limits: Limits, decode: DecodeOptions, lengths: Int32Array): void {
  const sequences = batch.seqIds.length;
  if (batch.tokenIds.length !== sequences) throw new RangeError("decode: expected one row per sequence");
  if (!Number.isInteger(decode.steps) || decode.steps < 1)
    throw new RangeError(`steps: ${decode.steps} is not positive`);
  if (decode.reserve.length !== sequences)
    throw new RangeError(`reserve: expected one list for each of ${sequences} sequences`);
  for (let b = 0; b < sequences; b++) {
    const pages = batch.kvIndptr[b + 1]! - batch.kvIndptr[b]! + decode.reserve[b]!.length;
    const needed = lengths[b]! + decode.steps - 1;
    if (pages * limits.pageSize < needed) {
      throw new RangeError(
        `reserve[${b}]: ${pages} pages hold ${pages * limits.pageSize} tokens, ${needed} are needed`,
      );
    }
    decode.reserve[b]!.forEach((page, i) => {
      expectBelow(`reserve[${b}]`, i, page, limits.pageCount);
    });
    expectBelow("positions after the last step", b, batch.positions[b]! + decode.steps - 1, limits.config.maxPositions);
  }
}

function expectLength(name: string, array: Int32Array, length: number): void {
  if (!(array instanceof Int32Array)) throw new RangeError(`${name}: expected an Int32Array`);
  if (array.length !== length) throw new RangeError(`${name}: expected ${length} entries, found ${array.length}`);
}

function expectBelow(name: string, index: number, value: number, limit: number): void {
  if (!Number.isInteger(value) || value < 0 || value >= limit)
    throw new RangeError(`${name}[${index}]: ${value} is not in 0 … ${limit - 1}`);
}
