import { byteWidth, type DType } from "../../tensor/dtype.js";
import type { HeadRows } from "./attention-call.js";
import type { DeviceBuffer } from "./backend.js";
import { formatOf } from "./element-format.js";
import type { KvLayout } from "./kv-store.js";

/** A strided view of a buffer; strides and offset count elements. Row-major when `strides` is absent. */
export interface Tensor {
  readonly buffer: DeviceBuffer;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly strides?: readonly number[];
  readonly offset?: number;
}

/** Strides of a view, given or row-major. */
export function stridesOf({ shape, strides }: Tensor): readonly number[] {
  if (strides) return strides;
  const dense = new Array<number>(shape.length).fill(1);
  for (let k = shape.length - 2; k >= 0; k--) dense[k] = dense[k + 1]! * shape[k + 1]!;
  return dense;
}

/** A view [rows, heads, head_dim] as kernels address it. */
export function headRows(tensor: Tensor): HeadRows {
  const [rowStride, headStride] = stridesOf(tensor) as [number, number];
  return { buffer: tensor.buffer, dtype: tensor.dtype, rowStride, headStride, offset: tensor.offset ?? 0 };
}

/**
 * Checks that kernels can read a view as it lies: rank, element type, unit last stride, 16-byte steps and bounds.
 * A view that they cannot honour is refused, never read differently.
 * @throws RangeError naming the tensor and what was expected.
 */
export function requireTensor(name: string, tensor: Tensor, shape: readonly (number | undefined)[]): void {
  formatOf(tensor.dtype, name);
  const fits = tensor.shape.length === shape.length && shape.every((n, k) => n === undefined || n === tensor.shape[k]);
  if (!fits) {
    throw new RangeError(
      `${name}: expected shape [${shape.map((n) => n ?? "any").join(", ")}], found [${tensor.shape}]`,
    );
  }
  const strides = stridesOf(tensor);
  if (strides.length !== shape.length)
    throw new RangeError(`${name}: expected ${shape.length} strides, found [${strides}]`);
  if (strides.at(-1) !== 1)
    throw new RangeError(`${name}: expected stride 1 on the last axis, found ${strides.at(-1)}`);
  const offset = tensor.offset ?? 0;
  // Loads are of eight elements, so every row must begin at a multiple of eight.
  if (offset % 8 !== 0 || strides.slice(0, -1).some((stride) => stride % 8 !== 0 || stride < 0)) {
    throw new RangeError(
      `${name}: expected strides and offset in multiples of 8 elements, found [${strides}] at ${offset}`,
    );
  }
  const last = tensor.shape.reduce((at, n, k) => at + Math.max(0, n - 1) * strides[k]!, offset);
  const needed = (last + 1) * byteWidth(tensor.dtype);
  if (!tensor.shape.includes(0) && needed > tensor.buffer.size) {
    throw new RangeError(`${name}: its view needs ${needed} bytes, the buffer has ${tensor.buffer.size}`);
  }
}

/** K and V pages: a pair, or one 5-D tensor with both, as FlashInfer takes them. */
export type PagedCache = readonly [Tensor, Tensor] | Tensor;

export interface CacheView {
  readonly keys: Tensor;
  readonly values: Tensor;
  readonly pageCount: number;
  /** In the order page, slot, head. */
  readonly keyStrides: readonly [number, number, number];
  readonly valueStrides: readonly [number, number, number];
}

/**
 * K and V of a paged cache: NHD [pages, page_size, heads, head_dim], HND [pages, heads, page_size, head_dim]; combined
 * [pages, 2, …].
 * @throws RangeError when shapes, types or strides are not what the plan says.
 */
export function cacheView(
  cache: PagedCache,
  layout: KvLayout,
  plan: { pageSize: number; kvHeads: number; headDim: number; kvDtype: DType },
): CacheView {
  const [keys, values] = Array.isArray(cache) ? (cache as readonly [Tensor, Tensor]) : unbind(cache as Tensor);
  const { pageSize, kvHeads, headDim } = plan;
  const rows = layout === "NHD" ? [pageSize, kvHeads] : [kvHeads, pageSize];
  const shape = [keys.shape[0], ...rows, headDim];
  requireTensor("paged K", keys, shape);
  requireTensor("paged V", values, shape);
  for (const [name, tensor] of [
    ["paged K", keys],
    ["paged V", values],
  ] as const) {
    if (tensor.dtype !== plan.kvDtype) {
      throw new RangeError(`${name}: the plan says ${plan.kvDtype}, the cache is ${tensor.dtype}`);
    }
  }
  const order = (tensor: Tensor): [number, number, number] => {
    const [page, a, b] = stridesOf(tensor) as [number, number, number];
    return layout === "NHD" ? [page, a, b] : [page, b, a];
  };
  return { keys, values, pageCount: keys.shape[0]!, keyStrides: order(keys), valueStrides: order(values) };
}

function unbind(cache: Tensor): [Tensor, Tensor] {
  if (cache.shape.length !== 5 || cache.shape[1] !== 2) {
    throw new RangeError(`paged KV: expected [pages, 2, …] or a pair of K and V, found shape [${cache.shape}]`);
  }
  const strides = stridesOf(cache);
  const side = (k: number): Tensor => ({
    buffer: cache.buffer,
    dtype: cache.dtype,
    shape: [cache.shape[0]!, ...cache.shape.slice(2)],
    strides: [strides[0]!, ...strides.slice(2)],
    offset: (cache.offset ?? 0) + k * strides[1]!,
  });
  return [side(0), side(1)];
}
