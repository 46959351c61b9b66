import type { CudaBuffer } from "../cuda/memory.js";
import type { KvLayout } from "../device/kv-store.js";
import type { CacheView, Tensor } from "../device/tensor.js";
import type { Operand } from "./operands.js";
import type { ElementType } from "./values.js";

/** Pages of a cache as FlashInfer addresses them, in the NHD order of axes whatever the strides; an HND cache is one by them. */
export function cacheOperands(
  cache: CacheView,
  sizes: { readonly pageSize: number; readonly kvHeads: number; readonly headDim: number },
): { keys: Operand; values: Operand; layout: KvLayout } {
  const { pageSize, kvHeads, headDim } = sizes;
  const shape = [cache.pageCount, pageSize, kvHeads, headDim];
  const side = (tensor: Tensor, strides: readonly number[]): Operand => ({
    buffer: tensor.buffer as CudaBuffer,
    dtype: tensor.dtype as ElementType,
    shape,
    strides: [...strides, 1],
    offset: tensor.offset,
  });
  return {
    keys: side(cache.keys, cache.keyStrides),
    values: side(cache.values, cache.valueStrides),
    layout: "NHD",
  };
}
