import { type DType, floatFormat, unitInLastPlace } from "../tensor/dtype.js";
import { flipVariance } from "./noise.js";
import { type MutableBlock, raiseJump } from "./op.js";

/** Errors of stored values: none, or that of a flip to the other neighbour. */
export function storeNoise(out: MutableBlock, before: Float64Array | undefined, store: DType): void {
  const format = floatFormat(store);
  for (let i = 0; i < out.value.length; i++) {
    if (out.variance[i] === 0) continue;
    out.variance[i] = flipVariance(out.value[i]!, out.variance[i]!, store, before?.[i]);
    if (out.variance[i] === 0 || !format) continue;
    raiseJump(out, i, Math.max(before?.[i] ?? 0, unitInLastPlace(out.value[i]!, format)));
  }
}
