import { validateIndptr } from "../run/page-table.js";
import type { Geometry } from "./geometry.js";
import { type Operand, tensorOf } from "./operands.js";
import { type AttentionOperands, type PagedKeys, pagedTensors, rowTensors } from "./paged-operands.js";
import { Plan } from "./plan.js";
import type { LibraryFunction, TvmLibrary } from "./tvm-library.js";
import { float, int, type Value } from "./values.js";
import { prefillVersion } from "./versions.js";
import type { FloatWorkspace, PlanWorkspace } from "./workspace.js";

/** kNone and kCausal */
const maskCodes = { none: 0, causal: 1 } as const;

export interface PrefillPlanRequest {
  /** [batch + 1] query rows and pages of each sequence, on the host. */
  readonly qoIndptr: Int32Array;
  readonly indptr: Int32Array;
  /** [batch] keys of each sequence. */
  readonly lengths: Int32Array;
  readonly causal: boolean;
  readonly graph: boolean;
}

export interface PrefillOperands extends AttentionOperands {
  readonly causal: boolean;
  /** [batch + 1] int32 on the device. */
  readonly qoIndptr: Operand;
}

/** K and V as rows [kv_indptr[batch], kv_heads, head_dim] of one sequence after the other; kv_indptr int32 [batch + 1]. */
export interface RaggedKeys {
  readonly keys: Operand;
  readonly values: Operand;
  readonly indptr: Operand;
}

/** FlashInfer's batch_prefill module (fa2): ragged query rows over paged or ragged K and V, on tensor cores. */
export class BatchPrefill {
  readonly #plan: LibraryFunction;
  readonly #pagedRun: LibraryFunction;
  readonly #raggedRun: LibraryFunction;
  readonly #version: ReturnType<typeof prefillVersion>;

  /** @throws Error in one sentence when the module is of a version that is not known. */
  constructor(
    readonly library: TvmLibrary,
    readonly path: string,
    readonly workspace: { readonly float: FloatWorkspace; readonly plan: PlanWorkspace },
    readonly geometry: Geometry,
  ) {
    const functionOf = library.open(path);
    this.#plan = functionOf("plan");
    this.#pagedRun = functionOf("paged_run");
    this.#raggedRun = functionOf("ragged_run");
    this.#version = prefillVersion(path, {
      plan: this.#plan.argumentCount,
      paged_run: this.#pagedRun.argumentCount,
      ragged_run: this.#raggedRun.argumentCount,
    });
  }

  /** @throws RangeError for arrays that do not fit each other; Error with the library's own words. */
  plan({ qoIndptr, indptr, lengths, causal, graph }: PrefillPlanRequest): Plan {
    const { heads, kvHeads, headDim, pageSize, windowLeft } = this.geometry;
    const batch = lengths.length;
    if (batch < 1) throw new RangeError("kv_indptr: a batch needs at least one sequence");
    validateIndptr("qo_indptr", qoIndptr, batch);
    validateIndptr("kv_indptr", indptr, batch);
    requireLengths(indptr, lengths, pageSize);
    const { float: floats, plan } = this.workspace;
    // No split of a given size, splitting allowed, no colocated blocks; no uniform length of queries, fixed or not.
    const settings: Value[] = [int(-1), false, int(0), int(0), false].slice(0, this.#version.prefillPlan - 16);
    const made = plan.plan(
      (pinned) =>
        this.#plan.call([
          floats.tensor,
          plan.tensor,
          pinned,
          ...[qoIndptr, indptr, lengths].map((numbers): Value => ({ kind: "numbers", numbers })),
          ...[qoIndptr[batch]!, batch, heads, kvHeads, pageSize].map(int),
          graph,
          int(headDim),
          int(headDim),
          causal,
          int(windowLeft),
          ...settings,
        ])!,
    );
    return new Plan(this.library, made);
  }

  /** Attention over pages. @throws RangeError naming the operand that does not fit. */
  pagedRun(plan: Plan, operands: PrefillOperands, paged: PagedKeys): void {
    const batch = paged.lastPageLen.shape[0] ?? 0;
    const { keys, values, indptr, indices, lastPageLen, layout } = pagedTensors(paged, this.geometry, batch, false);
    const { query, qoIndptr, rest } = this.#shared(operands, batch, layout);
    const read = [query, keys, values, qoIndptr, indptr, indices, lastPageLen];
    this.#pagedRun.call([...this.#planned(plan), ...read, ...rest]);
  }

  /** Attention over rows that follow one another. @throws RangeError naming the operand that does not fit. */
  raggedRun(plan: Plan, operands: PrefillOperands, ragged: RaggedKeys): void {
    const { kvHeads, headDim } = this.geometry;
    const batch = (ragged.indptr.shape[0] ?? 1) - 1;
    const shape = [ragged.keys.shape[0], kvHeads, headDim];
    const keys = tensorOf("k", ragged.keys, { dtype: "bfloat16", shape });
    const values = tensorOf("v", ragged.values, { dtype: "bfloat16", shape });
    const indptr = tensorOf("kv_indptr", ragged.indptr, { dtype: "int32", shape: [batch + 1], dense: true });
    const { query, qoIndptr, rest } = this.#shared(operands, batch, int(0));
    this.#raggedRun.call([...this.#planned(plan), query, keys, values, qoIndptr, indptr, ...rest]);
  }

  #planned(plan: Plan): Value[] {
    return [this.workspace.float.tensor, this.workspace.plan.tensor, plan.value];
  }

  /** Arguments that both runs have, from the output on. */
  #shared(operands: PrefillOperands, batch: number, layout: Value) {
    const { windowLeft, softCap } = this.geometry;
    const { query, output, lse } = rowTensors(operands, this.geometry);
    const qoIndptr = tensorOf("qo_indptr", operands.qoIndptr, { dtype: "int32", shape: [batch + 1], dense: true });
    const mask = int(operands.causal ? maskCodes.causal : maskCodes.none);
    // No custom mask, no ALiBi, no items of several prompts, no scales of the cache.
    const tensors: Value[] = new Array(this.#version.prefillTensors).fill(null);
    const scalars = [float(softCap), float(operands.scale), float(1), float(1), int(0)];
    return {
      query,
      qoIndptr,
      rest: [output, lse, mask, layout, int(windowLeft), operands.overlaps, ...tensors, ...scalars],
    };
  }
}

function requireLengths(indptr: Int32Array, lengths: Int32Array, pageSize: number): void {
  lengths.forEach((length, b) => {
    const pages = indptr[b + 1]! - indptr[b]!;
    const last = length - Math.max(0, pages - 1) * pageSize;
    const fits = pages === 0 ? length === 0 : last >= 1 && last <= pageSize;
    if (!fits) throw new RangeError(`kv_len[${b}]: ${length} keys do not lie on ${pages} pages of ${pageSize}`);
  });
}
