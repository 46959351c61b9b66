import { type Operand, tensorOf } from "./operands.js";
import type { LibraryFunction, TvmLibrary } from "./tvm-library.js";
import { float, int } from "./values.js";
import { argumentCounts, requireCount } from "./versions.js";

export interface RotateOperands {
  /** [rows, heads, head_dim] and [rows, kv_heads, head_dim], bfloat16. */
  readonly query: Operand;
  readonly key: Operand;
  readonly rotatedQuery: Operand;
  readonly rotatedKey: Operand;
  /** [rows] int32 on the device. */
  readonly positions: Operand;
  /** Channels that are rotated, from the first on. */
  readonly rotaryDim: number;
  /** Pairs of neighbouring channels rather than of halves. */
  readonly interleaved: boolean;
  readonly scale: number;
  readonly theta: number;
}

/** FlashInfer's rope module, on bfloat16; it computes angles by fast arithmetic, which large positions show. */
export class RopeModule {
  readonly #apply: LibraryFunction;

  constructor(library: TvmLibrary, path: string) {
    const name = "apply_rope_pos_ids";
    this.#apply = library.open(path)(name);
    requireCount(path, name, this.#apply.argumentCount, argumentCounts[name]);
  }

  /** @throws RangeError naming the operand that does not fit. */
  apply(operands: RotateOperands): void {
    const { query, key, rotaryDim, interleaved, scale, theta } = operands;
    const [rows, , headDim] = query.shape as [number, number, number];
    if (![64, 128, 256, 512].includes(headDim))
      throw new RangeError(`head_dim ${headDim}: FlashInfer rotates 64, 128, 256, 512`);
    if (!Number.isInteger(rotaryDim) || rotaryDim <= 0 || rotaryDim > headDim || rotaryDim % 16 !== 0) {
      throw new RangeError(`rotary_dim ${rotaryDim}: expected a multiple of 16 up to head_dim ${headDim}`);
    }
    if (!(scale > 0) || !(theta > 0))
      throw new RangeError(`rope scale ${scale} and theta ${theta}: expected more than 0`);
    if (rows === 0) return;
    const heads = (name: string, operand: Operand, like: Operand) =>
      tensorOf(name, operand, { dtype: "bfloat16", shape: [rows, like.shape[1], headDim] });
    this.#apply.call([
      heads("q", query, query),
      heads("k", key, key),
      heads("rotated q", operands.rotatedQuery, query),
      heads("rotated k", operands.rotatedKey, key),
      tensorOf("pos_ids", operands.positions, { dtype: "int32", shape: [rows], dense: true }),
      int(rotaryDim),
      interleaved,
      float(scale),
      float(theta),
    ]);
  }
}
