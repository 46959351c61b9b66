import type { Cuda } from "../cuda/cuda.js";
import type { CudaLaunch, LibraryPlan } from "../cuda/launch.js";
import type { CudaBuffer } from "../cuda/memory.js";
import { convert } from "../cuda/widened-inputs.js";
import type { AttentionCall } from "../device/attention-call.js";
import type { BatchShape } from "../device/batch-buffer.js";
import type { Place } from "../device/places.js";
import { BatchDecode } from "./batch-decode.js";
import { cacheOperands } from "./cache-operands.js";
import type { FlashInfer } from "./flashinfer.js";
import type { Geometry } from "./geometry.js";
import type { Operand } from "./operands.js";
import { DevicePageTable, kvIndptr, qoIndptr } from "./page-table.js";
import type { ElementType } from "./values.js";

/** One call of attention by FlashInfer, its output widened to float32. */
export function attendOnce(flashinfer: FlashInfer, cuda: Cuda, call: AttentionCall): void {
  const { batch, shape, heads, kvHeads, headDim, mask, decode, query, cache, pageSize = 1 } = call;
  const paged = call.pageSize !== undefined;
  const geometry: Geometry = { heads, kvHeads, headDim, pageSize, windowLeft: mask.windowLeft, softCap: mask.softCap };
  const kind = decode ? "decode" : "prefill";
  const planner = flashinfer.planner({ kind, geometry, causal: mask.causal, graph: false });
  const { rows, sequences } = shape;
  const narrow = cuda.buffer("attention output", rows * heads * headDim * 2);
  const table = new DevicePageTable(cuda, batch);
  const head: Operand = {
    buffer: query.buffer as CudaBuffer,
    dtype: query.dtype as ElementType,
    shape: [rows, heads, headDim],
    strides: [query.rowStride, query.headStride, 1],
    offset: query.offset,
  };
  const operands = {
    query: head,
    output: { buffer: narrow, dtype: "bfloat16", shape: [rows, heads, headDim] } satisfies Operand,
    lse: { buffer: call.lse as CudaBuffer, dtype: "float32", shape: [rows, heads] } satisfies Operand,
    scale: mask.scale,
    overlaps: false,
    causal: mask.causal,
    qoIndptr: qoIndptr(batch, sequences),
  };
  const run = () => {
    const { module, plan } = planner;
    if (paged) {
      const pages = { ...cacheOperands(cache, geometry), ...table.operands(sequences) };
      if (module instanceof BatchDecode) module.run(plan, operands, pages);
      else module.pagedRun(plan, operands, pages);
    } else if (!(module instanceof BatchDecode)) {
      module.raggedRun(plan, operands, { ...raggedOperands(call), indptr: kvIndptr(batch, sequences) });
    }
  };
  const plan: LibraryPlan = { replayable: false, prepare: () => planner.prepare(batch.content, paged) };
  const columns = { shape: [heads * headDim], rowStride: heads * headDim, offset: 0, per: "row" } as const;
  const from: Place = { buffer: narrow, dtype: "bfloat16", ...columns };
  const launches: CudaLaunch[] = [
    ...(paged ? [table.launch] : []),
    { label: "attention", plan, call: run },
    convert(cuda.modules, "widen", from, { buffer: call.output, ...columns }),
  ];
  try {
    cuda.run(launches, shape satisfies BatchShape);
  } finally {
    table.destroy();
    narrow.destroy();
  }
}

/** K and V as rows [keys, kv_heads, head_dim]. */
function raggedOperands({ cache, kvHeads, headDim }: AttentionCall): { keys: Operand; values: Operand } {
  const rows = (tensor: AttentionCall["cache"]["keys"]): Operand => ({
    buffer: tensor.buffer as CudaBuffer,
    dtype: tensor.dtype as ElementType,
    shape: [tensor.shape[0]!, kvHeads, headDim],
    strides: tensor.strides,
    offset: tensor.offset,
  });
  return { keys: rows(cache.keys), values: rows(cache.values) };
}
