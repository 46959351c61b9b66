import type { Gpu } from "../webgpu/device.js";
import { kernel } from "../webgpu/kernels.js";
import { mergeLayout, submit } from "./launch.js";
import { requireTensor, type Tensor } from "./tensor.js";

/**
 * Joins attention states over disjoint sets of keys, FlashInfer's merge_states: v [rows, states, heads, head_dim] and
 * base-2 s [rows, states, heads], float32 and dense; merge_state is the case of two states. Empty states have s -infinity.
 * @throws RangeError when shapes, types or strides do not fit.
 */
export async function mergeStates(
  gpu: Gpu,
  v: Tensor,
  s: { readonly buffer: GPUBuffer; readonly shape: readonly number[] },
): Promise<{ output: GPUBuffer; lse: GPUBuffer }> {
  requireTensor("v", v, [undefined, undefined, undefined, undefined]);
  if (v.dtype !== "float32") throw new RangeError(`v: expected float32, found ${v.dtype}`);
  const [rows, states, heads, headDim] = v.shape as [number, number, number, number];
  if (v.strides || v.offset) throw new RangeError("v: expected a dense tensor");
  if (s.shape.length !== 3 || [rows, states, heads].some((n, k) => n !== s.shape[k])) {
    throw new RangeError(`s: expected shape [${rows}, ${states}, ${heads}], found [${s.shape}]`);
  }
  const output = gpu.buffer("merged", rows * heads * headDim * 4);
  const lse = gpu.buffer("merged lse", rows * heads * 4);
  const layout = mergeLayout(gpu, { count: states, rowStride: states * heads, headStride: 1, stateStride: heads });
  const program = await kernel(gpu, "attention-merge", { HEAD_DIM: headDim });
  const group = program.bind({ states: layout, input: v.buffer, input_lse: s.buffer, output, lse });
  submit(gpu, [[program, group, [heads, rows, 1]]]);
  layout.destroy();
  return { output, lse };
}
