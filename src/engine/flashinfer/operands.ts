import type { CudaBuffer } from "../cuda/memory.js";
import { type DeviceTensor, denseStrides, type ElementType, elementTypes } from "./values.js";

/** A view of device memory as a function of FlashInfer is given it; strides and offset in elements. */
export interface Operand {
  readonly buffer: CudaBuffer;
  readonly dtype: ElementType;
  readonly shape: readonly number[];
  readonly strides?: readonly number[] | undefined;
  readonly offset?: number | undefined;
}

interface Expected {
  readonly dtype: ElementType;
  /** Undefined where any size will do. */
  readonly shape: readonly (number | undefined)[];
  /** Whether elements must follow one another: kernels do not ask for the strides. @default false */
  readonly dense?: boolean;
}

/** Bytes that kernels load at a time. */
const vectorBytes = 16;

/**
 * A tensor for the library, of which every property that its kernels rely on has been checked: they look at hardly any.
 * @throws RangeError naming the operand and what was expected.
 */
export function tensorOf(name: string, operand: Operand, expected: Expected): DeviceTensor {
  const { buffer, dtype, shape, offset = 0 } = operand;
  if (dtype !== expected.dtype) throw new RangeError(`${name}: FlashInfer expects ${expected.dtype}, found ${dtype}`);
  const fits =
    shape.length === expected.shape.length && expected.shape.every((n, k) => n === undefined || n === shape[k]);
  if (!fits || !shape.every((n) => Number.isInteger(n) && n >= 0)) {
    throw new RangeError(
      `${name}: FlashInfer expects shape [${expected.shape.map((n) => n ?? "any").join(", ")}], found [${shape.join(", ")}]`,
    );
  }
  const dense = denseStrides(shape);
  const strides = operand.strides ?? dense;
  if (strides.length !== shape.length || strides.at(-1) !== 1) {
    throw new RangeError(
      `${name}: FlashInfer expects stride 1 on the last axis, found strides [${strides.join(", ")}]`,
    );
  }
  if (expected.dense && shape.some((n, k) => n > 1 && strides[k] !== dense[k])) {
    throw new RangeError(
      `${name}: FlashInfer expects elements that follow one another, found strides [${strides.join(", ")}]`,
    );
  }
  const { bits } = elementTypes[dtype];
  const width = bits / 8;
  const address = buffer.address + offset * width;
  const isVector = dtype !== "int32" && dtype !== "uint8";
  const steps = expected.dense ? [] : strides.slice(0, -1);
  if (
    isVector &&
    !expected.dense &&
    [offset, ...steps].some((step) => step < 0 || (step * width) % vectorBytes !== 0)
  ) {
    throw new RangeError(
      `${name}: FlashInfer reads 16 bytes at a time, strides [${strides.join(", ")}] and offset ${offset} are no multiples of ${vectorBytes / width}`,
    );
  }
  if (address % (isVector ? vectorBytes : width) !== 0) {
    throw new RangeError(`${name}: FlashInfer reads 16 bytes at a time, the address ${address} is no multiple of that`);
  }
  if (steps.some((step) => step >= 2 ** 32)) {
    throw new RangeError(`${name}: FlashInfer keeps strides in 32 bits, found [${strides.join(", ")}]`);
  }
  const last = shape.reduce((at, n, k) => at + Math.max(0, n - 1) * strides[k]!, offset);
  if (!shape.includes(0) && (last + 1) * width > buffer.size) {
    throw new RangeError(`${name}: its view needs ${(last + 1) * width} bytes, the buffer has ${buffer.size}`);
  }
  return { kind: "device", address, dtype, shape, strides };
}
