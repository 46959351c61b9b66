import { byteWidth, decode } from "../tensor/dtype.js";
import { InputError } from "../tensor/errors.js";
import { type Capture, isPagedRecord, type TensorSource, type ValueRecord } from "./capture.js";

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
  if (!capture.records.some(holdsNumber)) {
    throw new InputError(
      `${capture.path}: expected recorded numbers, found NaN in every element of all ${capture.records.length} values: nothing in it can be judged`,
    );
  }
}

function holdsNumber(record: ValueRecord): boolean {
  const sources: TensorSource[] = isPagedRecord(record) ? [...record.pages.values()] : [record.source];
  const step = chunkBytes - (chunkBytes % byteWidth(record.view.dtype));
  for (const { file, entry } of sources) {
    for (let at = 0; at < entry.byteLength; at += step) {
      const bytes = file.readBytes(entry, at, Math.min(step, entry.byteLength - at));
      if (decode(bytes, record.view.dtype).some((value) => !Number.isNaN(value))) return true;
    }
  }
  return false;
}
