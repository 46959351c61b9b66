import type { LibraryPlan } from "../cuda/launch.js";
import type { BatchBuffer, BatchContent } from "../device/batch-buffer.js";
import type { BatchDecode } from "./batch-decode.js";
import type { BatchPrefill } from "./batch-prefill.js";
import type { Plan } from "./plan.js";

/**
 * The plan of one module and geometry. It depends on rows and pages of the sequences and on nothing else: it holds while
 * keys are added to pages that are there, for every layer, and for every path that has a batch of such sizes.
 */
export class Planner {
  #key = "";
  #plan: Plan | undefined;

  /** @param graph whether plans are to serve runs in graphs: all of one batch size lie in memory alike. */
  constructor(
    readonly module: BatchDecode | BatchPrefill,
    readonly causal: boolean,
    readonly graph: boolean,
  ) {}

  /** Plans for a batch, unless the last plan is for one of its sizes. */
  prepare({ qoIndptr, kvLength, pageSize }: BatchContent, paged: boolean): void {
    const { module, graph, causal } = this;
    const indptr = pagesOf(kvLength, paged ? pageSize : 1);
    const key = "pagedRun" in module ? `${qoIndptr} ${indptr}` : `${indptr}`;
    if (key === this.#key) return;
    const plan =
      "pagedRun" in module
        ? module.plan({ qoIndptr, indptr, lengths: kvLength, causal, graph })
        : module.plan({ indptr, graph });
    this.#plan?.release();
    this.#plan = plan;
    this.#key = key;
  }

  /** What the next run takes. @throws Error before anything was planned. */
  get plan(): Plan {
    if (!this.#plan) throw new Error("run() before plan()");
    return this.#plan;
  }

  destroy(): void {
    this.#plan?.release();
  }
}

/** The plan of a path's batch, whatever batch lies there when it is prepared. */
export class BatchPlan implements LibraryPlan {
  constructor(
    readonly planner: Planner,
    readonly batch: BatchBuffer,
  ) {}

  get replayable(): boolean {
    return this.planner.graph;
  }

  prepare(): void {
    this.planner.prepare(this.batch.content, true);
  }
}

/** [sequences + 1] pages that the keys lie on, without those that sequences may grow into. */
function pagesOf(lengths: Int32Array, pageSize: number): Int32Array {
  const indptr = new Int32Array(lengths.length + 1);
  lengths.forEach((length, b) => {
    indptr[b + 1] = indptr[b]! + Math.ceil(length / pageSize);
  });
  return indptr;
}
