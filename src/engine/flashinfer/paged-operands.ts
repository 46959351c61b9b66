import type { KvLayout } from "../device/kv-store.js";
import { type Geometry, layoutCodes } from "./geometry.js";
import { type Operand, tensorOf } from "./operands.js";
import { type DeviceTensor, int, type Value } from "./values.js";

/** K and V pages with their page table; NHD [pages, page_size, kv_heads, head_dim], HND [pages, kv_heads, page_size, head_dim]. */
export interface PagedKeys {
  readonly keys: Operand;
  readonly values: Operand;
  readonly layout: KvLayout;
  /** int32 on the device: [batch + 1], [indptr[batch]] or more, [batch]. */
  readonly indptr: Operand;
  readonly indices: Operand;
  readonly lastPageLen: Operand;
}

/** What a run reads and leaves. */
export interface AttentionOperands {
  /** [rows, heads, head_dim], rows and heads any distance apart. */
  readonly query: Operand;
  /** [rows, heads, head_dim], dense. */
  readonly output: Operand;
  /** [rows, heads] float32, in base 2; undefined where nobody asks. */
  readonly lse?: Operand | undefined;
  /** sm_scale */
  readonly scale: number;
  /** Whether kernels may start before the one before them has ended (programmatic dependent launch). */
  readonly overlaps: boolean;
}

/** @throws RangeError when pages or table are not what the kernels address; `alike`: K and V must have the same strides. */
export function pagedTensors(paged: PagedKeys, geometry: Geometry, batch: number, alike: boolean) {
  const { kvHeads, headDim, pageSize } = geometry;
  const inner = paged.layout === "NHD" ? [pageSize, kvHeads] : [kvHeads, pageSize];
  const shape = [undefined, ...inner, headDim];
  const keys = tensorOf("paged K", paged.keys, { dtype: "bfloat16", shape });
  const values = tensorOf("paged V", paged.values, { dtype: "bfloat16", shape: [keys.shape[0], ...inner, headDim] });
  if (alike && keys.strides.some((stride, k) => stride !== values.strides[k])) {
    throw new RangeError(
      `paged V: FlashInfer addresses V with the strides of K, [${keys.strides.join(", ")}], found [${values.strides.join(", ")}]`,
    );
  }
  return {
    keys,
    values,
    indptr: tensorOf("kv_indptr", paged.indptr, { dtype: "int32", shape: [batch + 1], dense: true }),
    indices: tensorOf("kv_indices", paged.indices, { dtype: "int32", shape: [undefined], dense: true }),
    lastPageLen: tensorOf("kv_last_page_len", paged.lastPageLen, { dtype: "int32", shape: [batch], dense: true }),
    layout: int(layoutCodes[paged.layout]),
  };
}

/** @throws RangeError when q, output or lse are not what the kernels address. */
export function rowTensors(operands: AttentionOperands, { heads, headDim }: Geometry) {
  const query = tensorOf("q", operands.query, { dtype: "bfloat16", shape: [undefined, heads, headDim] });
  const rows = query.shape[0]!;
  const output = tensorOf("output", operands.output, { dtype: "bfloat16", shape: [rows, heads, headDim], dense: true });
  const lse: DeviceTensor | null = operands.lse
    ? tensorOf("lse", operands.lse, { dtype: "float32", shape: [rows, heads], dense: true })
    : null;
  if (!Number.isFinite(operands.scale)) throw new RangeError(`sm_scale ${operands.scale}: expected a finite number`);
  return { rows, query, output, lse: lse as Value };
}
