import type { Backend, DeviceBuffer } from "../device/backend.js";
import { requireTensor, type Tensor } from "../device/tensor.js";

/**
 * Joins attention states over disjoint sets of keys, FlashInfer's merge_states: v [rows, states, heads, head_dim] and
 * base-2 s [rows, states, heads], float32 and dense; merge_state is the case of two states. Empty states have s -infinity.
 * @throws RangeError when shapes, types or strides do not fit.
 */
export async function mergeStates(
  backend: Backend,
  v: Tensor,
  s: { readonly buffer: DeviceBuffer; readonly shape: readonly number[] },
): Promise<{ output: DeviceBuffer; lse: DeviceBuffer }> {
  requireTensor("v", v, [undefined, undefined, undefined, undefined]);
  if (v.dtype !== "float32") throw new RangeError(`v: expected float32, found ${v.dtype}`);
  const [rows, states, heads, headDim] = v.shape as [number, number, number, number];
  if (v.strides || v.offset) throw new RangeError("v: expected a dense tensor");
  if (s.shape.length !== 3 || [rows, states, heads].some((n, k) => n !== s.shape[k])) {
    throw new RangeError(`s: expected shape [${rows}, ${states}, ${heads}], found [${s.shape}]`);
  }
  const output = backend.buffer("merged", rows * heads * headDim * 4);
  const lse = backend.buffer("merged lse", rows * heads * 4);
  await backend.merge({ rows, states, heads, headDim, input: v.buffer, inputLse: s.buffer, output, lse });
  return { output, lse };
}
