import { advanced, type Batch } from "./batch.js";
import type { DecodeOptions, Path } from "./path.js";

/** Decodes one forward pass at a time, each on the tokens of the one before, where the host has a part in every step. */
export async function decodeStepwise(
  path: Pick<Path, "forward">,
  batch: Batch,
  { steps, reserve, sampling, onTokens }: DecodeOptions,
): Promise<Int32Array[]> {
  const produced: Int32Array[] = [];
  let current = batch;
  for (let step = 0; step < steps; step++) {
    const { tokenIds, finite } = await path.forward(current, { sampling });
    produced.push(tokenIds);
    if (onTokens?.(step, tokenIds, finite) === false) break;
    if (step + 1 < steps) current = advanced(current, tokenIds, batch, reserve);
  }
  return produced;
}
