import { type DType, floatFormat } from "./dtype.js";
import { roundAll } from "./rounding.js";

/** A number type too narrow to hold values without a scale. Values divided by their scale are rounded to it. */
export interface NarrowFormat {
  readonly id: string;
  /** As people write it. */
  readonly title: string;
  /** The largest number: a scale brings the largest value of its tile there. */
  readonly largest: number;
  /** Whole numbers from 0 up, where a zero point makes room for both signs; undefined for other types. */
  readonly levels?: number | undefined;
  /** Rounds in place, nearest, ties to even; what lies beyond the largest number becomes that. */
  round(values: Float64Array): void;
}

function float(id: string, title: string, dtype: DType): NarrowFormat {
  const { max } = floatFormat(dtype)!;
  return {
    id,
    title,
    largest: max,
    round(values) {
      for (let i = 0; i < values.length; i++) values[i] = Math.min(max, Math.max(-max, values[i]!));
      roundAll(values, dtype);
    },
  };
}

/** Adding and taking away 1.5 · 2^52 leaves the nearest whole number, ties to even. */
const whole = 1.5 * 2 ** 52;

function integer(id: string, bits: number): NarrowFormat {
  const largest = 2 ** (bits - 1) - 1;
  return {
    id,
    title: id,
    largest,
    levels: 2 ** bits,
    round(values) {
      for (let i = 0; i < values.length; i++) {
        const x = values[i]!;
        values[i] = x > largest ? largest : x < -largest ? -largest : x + whole - whole;
      }
    },
  };
}

/** Numbers from a table, the nearest one each; `levels` rise. */
function codebook(id: string, title: string, levels: readonly number[]): NarrowFormat {
  const middles = levels.slice(1).map((level, i) => (level + levels[i]!) / 2);
  // Codes count up from 0 to either side.
  const zero = levels.indexOf(0);
  const even = levels.map((_, i) => (i - zero) % 2 === 0);
  return {
    id,
    title,
    largest: levels.at(-1)!,
    round(values) {
      for (let i = 0; i < values.length; i++) {
        const x = values[i]!;
        let low = 0;
        let high = middles.length;
        while (low < high) {
          const middle = (low + high) >> 1;
          // In the middle of two the even one wins, as in every float type.
          if (x > middles[middle]! || (x === middles[middle]! && !even[middle])) low = middle + 1;
          else high = middle;
        }
        values[i] = levels[low]!;
      }
    },
  };
}

/** Quantiles of a normal distribution: Dettmers et al., "QLoRA", 2023. */
const normalLevels = [
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
  -0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
  0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
];

const halves = [0.5, 1, 1.5, 2, 3, 4, 6];

/** Types that weights, activations and caches are kept in. fp8: OCP 8-bit formats; fp4: OCP microscaling's e2m1. */
export const narrowFormats = {
  e4m3: float("e4m3", "fp8 e4m3", "float8_e4m3fn"),
  e5m2: float("e5m2", "fp8 e5m2", "float8_e5m2"),
  bfloat16: float("bfloat16", "bfloat16", "bfloat16"),
  float16: float("float16", "float16", "float16"),
  int8: integer("int8", 8),
  int4: integer("int4", 4),
  fp4: codebook("fp4", "fp4 e2m1", [...halves.map((x) => -x).reverse(), 0, ...halves]),
  nf4: codebook("nf4", "nf4", normalLevels),
} as const satisfies Record<string, NarrowFormat>;
