import { validateIndptr } from "../run/page-table.js";
import type { Geometry } from "./geometry.js";
import { type AttentionOperands, type PagedKeys, pagedTensors, rowTensors } from "./paged-operands.js";
import { Plan } from "./plan.js";
import type { LibraryFunction, TvmLibrary } from "./tvm-library.js";
import { type DeviceTensor, float, int } from "./values.js";
import { argumentCounts, requireCount } from "./versions.js";
import type { FloatWorkspace, PlanWorkspace } from "./workspace.js";

export interface DecodePlanRequest {
  /** [batch + 1] pages of each sequence, on the host: a plan holds as long as these do. */
  readonly indptr: Int32Array;
  /** Whether a graph will run later plans of as many sequences: they all lie in memory alike then. */
  readonly graph: boolean;
}

/** FlashInfer's batch_decode module: one query row per sequence over paged K and V, without tensor cores. */
export class BatchDecode {
  readonly #plan: LibraryFunction;
  readonly #run: LibraryFunction;

  /** @throws Error in one sentence when the module is of a version that is not known. */
  constructor(
    readonly library: TvmLibrary,
    readonly path: string,
    readonly workspace: { readonly float: FloatWorkspace; readonly plan: PlanWorkspace },
    readonly geometry: Geometry,
  ) {
    const functionOf = library.open(path);
    this.#plan = functionOf("plan");
    this.#run = functionOf("run");
    requireCount(path, "plan", this.#plan.argumentCount, argumentCounts.decodePlan);
    requireCount(path, "run", this.#run.argumentCount, argumentCounts.decodeRun);
  }

  /** @throws RangeError for an indptr that is none; Error with the library's own words. */
  plan({ indptr, graph }: DecodePlanRequest): Plan {
    const { heads, kvHeads, headDim, pageSize, windowLeft, softCap } = this.geometry;
    const batch = indptr.length - 1;
    validateIndptr("kv_indptr", indptr, batch);
    if (batch < 1) throw new RangeError("kv_indptr: a batch needs at least one sequence");
    const { float: floats, plan } = this.workspace;
    const made = plan.plan((pinned) => {
      const sizes = [int(batch), int(heads), int(kvHeads), int(pageSize), graph, int(windowLeft), float(softCap)];
      const types = [typeCarrier(floats.tensor), typeCarrier(floats.tensor)];
      return this.#plan.call([
        floats.tensor,
        plan.tensor,
        pinned,
        { kind: "numbers", numbers: indptr },
        ...sizes,
        int(headDim),
        int(headDim),
        ...types,
      ])!;
    });
    return new Plan(this.library, made);
  }

  /** Attention over the keys that the device's page table names. @throws RangeError naming the operand that does not fit. */
  run(plan: Plan, operands: AttentionOperands, paged: PagedKeys): void {
    const { windowLeft, softCap } = this.geometry;
    const { rows, query, output, lse } = rowTensors(operands, this.geometry);
    const { keys, values, indptr, indices, lastPageLen, layout } = pagedTensors(paged, this.geometry, rows, true);
    this.#run.call([
      this.workspace.float.tensor,
      this.workspace.plan.tensor,
      plan.value,
      query,
      keys,
      values,
      indptr,
      indices,
      lastPageLen,
      output,
      lse,
      layout,
      int(windowLeft),
      operands.overlaps,
      null,
      float(softCap),
      float(operands.scale),
      float(1),
      float(1),
    ]);
  }
}

/** A tensor without elements that stands for its type. */
function typeCarrier({ address }: DeviceTensor): DeviceTensor {
  return { kind: "device", address, dtype: "bfloat16", shape: [0], strides: [1] };
}
