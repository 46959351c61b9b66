import { byteWidth, type DType, elementReader } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import type { TensorEntry } from "../tensor/safetensors.js";
import { type Capture, isPagedRecord, type TensorSource, type ValueRecord } from "./capture.js";

/** The first number mostly is the first element: a little is read at first, and more each time that held NaN alone. */
const firstBytes = 2 ** 12;
const chunkBytes = 2 ** 20;

/**
 * Refuses a recording that cannot be of this model's run: a token outside the vocabulary, or no number anywhere. A run
 * that broke still holds numbers before the place where it broke.
 * @param vocabulary rows of the embedding table; undefined when the spec has no logits.
 * @throws InputError naming the field.
 */
export function expectPlausible(capture: Capture, vocabulary: number | undefined): void {
  for (const { step, token_ids: tokens } of capture.steps) {
    const outside = tokens.find((token) => vocabulary !== undefined && token >= vocabulary);
    if (outside !== undefined) {
      throw new InputError(
        `${capture.path}: token_ids of step ${step}: expected ids below the model's vocabulary of ${vocabulary}, found ${outside}: recorded with another model?`,
      );
    }
  }
  const read = new Map<TensorEntry, Set<DType>>();
  if (!capture.records.some((record) => holdsNumber(record, read))) {
    throw new InputError(
      `${capture.path}: expected recorded numbers, found NaN in every element of all ${capture.records.length} values: nothing in it can be judged`,
    );
  }
}

/** Whether any element is not NaN; reading ends with the first one, and views of the same bytes are read once. */
function holdsNumber(record: ValueRecord, read: Map<TensorEntry, Set<DType>>): boolean {
  const sources: TensorSource[] = isPagedRecord(record) ? [...record.pages.values()] : [record.source];
  const { dtype } = record.view;
  return sources.some((source) => {
    const known = read.get(source.entry) ?? new Set();
    read.set(source.entry, known);
    if (known.has(dtype)) return false;
    known.add(dtype);
    return tensorHoldsNumber(source, dtype);
  });
}

function tensorHoldsNumber({ file, entry }: TensorSource, dtype: DType): boolean {
  const width = byteWidth(dtype);
  const read = elementReader(dtype);
  let size = firstBytes;
  for (let at = 0; at + width <= entry.byteLength; ) {
    const bytes = file.readBytes(entry, at, Math.min(size, entry.byteLength - at));
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let i = 0; i + width <= bytes.byteLength; i += width) if (!Number.isNaN(read(view, i))) return true;
    at += size;
    size = Math.min(2 * size, chunkBytes);
  }
  return false;
}
