import type { BlockSumsKernels, BlockSumsLayout } from "./block-sums-memory.js";
import { type DType, decodeInto, type FloatFormat, floatFormat, tf32Format } from "./dtype.js";
import { roundToFormat } from "./rounding.js";

/** How weights are stored, and the type they are rounded to (nearest, ties to even) before they are used. */
export interface WeightFormat {
  readonly dtype: DType;
  readonly roundedTo?: DType | "tf32" | undefined;
}

/** How weights of one format come to be summed. */
export interface WeightPath {
  readonly add: "addBfloat16" | "addFloat32" | "addFloat64";
  /** Bytes of an element that is summed. */
  readonly width: number;
  /** Sign bits of 8 bytes of such elements. */
  readonly mask: readonly [number, number];
  /** Whether the elements that are summed lie elsewhere than those that are read. */
  readonly apart: boolean;
  /** Turns the bytes that were read into elements that are summed. */
  prepare(kernels: BlockSumsKernels, bytes: Uint8Array, layout: BlockSumsLayout, count: number): void;
}

const inBfloat16 = { add: "addBfloat16", width: 2, mask: [0x80008000, 0x80008000], apart: false } as const;
const inFloat32 = { add: "addFloat32", width: 4, mask: [0x80000000, 0x80000000], apart: false } as const;
const inFloat64 = { add: "addFloat64", width: 8, mask: [0, 0x80000000], apart: false } as const;

/** The fastest way: in the stored type where there is a kernel for it, else in float64 made here. */
export function pathOf({ dtype, roundedTo }: WeightFormat): WeightPath {
  const to = roundedTo === "tf32" ? tf32Format : roundedTo && floatFormat(roundedTo);
  const own = floatFormat(dtype);
  const rounds = to !== undefined && roundedTo !== "float64" && !(own && isWithin(own, to));
  if (dtype === "bfloat16" && !rounds) return { ...inBfloat16, prepare: () => {} };
  if (dtype === "float32" && !rounds) return { ...inFloat32, prepare: () => {} };
  if (dtype === "float64" && !rounds) return { ...inFloat64, prepare: () => {} };
  if (dtype === "float32" && to!.minExponent === own!.minExponent) {
    const cut = own!.fractionBits - to!.fractionBits;
    return { ...inFloat32, prepare: (kernels, _, layout, count) => kernels.roundFloat32(layout.weights, count, cut) };
  }
  if (dtype === "float16" && !rounds) {
    return {
      ...inFloat32,
      apart: true,
      prepare: (kernels, _, layout, count) => kernels.widenFloat16(layout.raw, layout.weights, count),
    };
  }
  return {
    ...inFloat64,
    apart: true,
    prepare(_, bytes, layout, count) {
      const values = new Float64Array(bytes.buffer, layout.weights, count);
      decodeInto(bytes, dtype, 0, count, values, 0);
      if (rounds) roundToFormat(values, to);
    },
  };
}

/** Whether every number of `format` is one of `other` too. */
function isWithin(format: FloatFormat, other: FloatFormat): boolean {
  const last = (f: FloatFormat) => f.minExponent - f.fractionBits;
  return format.fractionBits <= other.fractionBits && last(format) >= last(other) && format.max <= other.max;
}
