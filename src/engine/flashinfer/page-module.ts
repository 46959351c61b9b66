import { layoutCodes } from "./geometry.js";
import { type Operand, tensorOf } from "./operands.js";
import type { PagedKeys } from "./paged-operands.js";
import type { LibraryFunction, TvmLibrary } from "./tvm-library.js";
import { int } from "./values.js";
import { argumentCounts, requireCount } from "./versions.js";

export interface AppendOperands extends PagedKeys {
  /** [rows, kv_heads, head_dim], rows and heads any distance apart. */
  readonly key: Operand;
  readonly value: Operand;
  /** [rows] int32 on the device: sequence of each row, and its absolute position there. */
  readonly batchIndices: Operand;
  readonly positions: Operand;
}

/** Sizes of a head that the append kernel is compiled for. */
const appendHeadDims = [64, 128, 256, 512];

/** FlashInfer's page module. */
export class PageModule {
  readonly #append: LibraryFunction;

  constructor(library: TvmLibrary, path: string) {
    const name = "append_paged_kv_cache";
    this.#append = library.open(path)(name);
    requireCount(path, name, this.#append.argumentCount, argumentCounts[name]);
  }

  /**
   * Rows of K and V into their pages, which the page table names already. Indices lie on the device, where nobody looks at
   * them: who made them must have checked them.
   * @throws RangeError naming the operand that does not fit.
   */
  append(operands: AppendOperands): void {
    const { layout } = operands;
    const rows = operands.key.shape[0] ?? 0;
    const [, first, second, headDim] = operands.keys.shape as [number, number, number, number];
    const kvHeads = layout === "NHD" ? second : first;
    if (!appendHeadDims.includes(headDim)) {
      throw new RangeError(`head_dim ${headDim}: FlashInfer appends ${appendHeadDims.join(", ")}`);
    }
    if ((headDim / 8) * kvHeads > 1024) {
      throw new RangeError(`${kvHeads} heads of ${headDim} channels are more than FlashInfer appends in one block`);
    }
    if (rows === 0) return;
    const shape = [rows, kvHeads, headDim];
    const pages = operands.keys.shape;
    const keys = tensorOf("paged K", operands.keys, { dtype: "bfloat16", shape: pages });
    const values = tensorOf("paged V", operands.values, { dtype: "bfloat16", shape: pages });
    if (keys.strides.some((stride, k) => stride !== values.strides[k])) {
      throw new RangeError("paged V: FlashInfer addresses V with the strides of K, found others");
    }
    const batch = operands.lastPageLen.shape[0] ?? 0;
    const list = (name: string, operand: Operand, size: number | undefined) =>
      tensorOf(name, operand, { dtype: "int32", shape: [size], dense: true });
    this.#append.call([
      tensorOf("append_key", operands.key, { dtype: "bfloat16", shape }),
      tensorOf("append_value", operands.value, { dtype: "bfloat16", shape }),
      list("batch_indices", operands.batchIndices, rows),
      list("positions", operands.positions, rows),
      keys,
      values,
      list("kv_indices", operands.indices, undefined),
      list("kv_indptr", operands.indptr, batch + 1),
      list("kv_last_page_len", operands.lastPageLen, batch),
      int(layoutCodes[layout]),
    ]);
  }
}
