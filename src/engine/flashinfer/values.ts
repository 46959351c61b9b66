/** Element types of tensors that FlashInfer is given here, as DLPack numbers them: code and bits. */
export const elementTypes = {
  int32: { code: 0, bits: 32 },
  uint8: { code: 1, bits: 8 },
  float16: { code: 2, bits: 16 },
  float32: { code: 2, bits: 32 },
  bfloat16: { code: 4, bits: 16 },
} as const;

export type ElementType = keyof typeof elementTypes;

/** Device memory as a tensor; strides in elements. */
export interface DeviceTensor {
  readonly kind: "device";
  readonly address: number;
  readonly dtype: ElementType;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
}

/** Memory of the host that the caller keeps, one-dimensional. */
export interface HostTensor {
  readonly kind: "host";
  readonly address: number;
  readonly dtype: ElementType;
  readonly length: number;
}

/** Numbers that the library reads before a call returns. */
export interface HostNumbers {
  readonly kind: "numbers";
  readonly numbers: Int32Array;
}

/** An object that the library made, held by its handle. */
export interface ObjectValue {
  readonly kind: "object";
  readonly type: number;
  readonly handle: number;
}

/** An argument of a function of the library: a whole number, a real one, true or false, a tensor, an object, or None. */
export type Value =
  | { readonly kind: "int"; readonly value: number }
  | { readonly kind: "float"; readonly value: number }
  | boolean
  | null
  | DeviceTensor
  | HostTensor
  | HostNumbers
  | ObjectValue;

export const int = (value: number): Value => ({ kind: "int", value });
export const float = (value: number): Value => ({ kind: "float", value });

/** Strides of a tensor whose elements follow one another. */
export function denseStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let k = strides.length - 2; k >= 0; k--) strides[k] = strides[k + 1]! * shape[k + 1]!;
  return strides;
}
