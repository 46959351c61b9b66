import type { Graph, GraphNode } from "../spec/graph.js";
import type { Capture } from "./capture.js";

/**
 * Values of a token's chosen experts lie one slot after the other, in the order in which its router chose: without the indices
 * nobody knows it, since routers sort or do not.
 */
export class SlotOrder {
  /** Why a value of slots cannot be read. */
  readonly missing = "recorded without the experts' indices, which tell whose they are";
  readonly #recorded: ReadonlySet<string>;

  constructor(
    capture: Capture,
    readonly graph: Graph,
  ) {
    this.#recorded = new Set(capture.records.map(({ name, step }) => `${step} ${name}`));
  }

  /** Whether a value has no slots, or those of its layer were recorded in this step. */
  isKnown({ site }: GraphNode, step: number): boolean {
    if (site.block !== "experts" && site.what !== "routing-weight") return true;
    const chosen = this.graph.at({ what: "chosen", layer: site.layer });
    return chosen === undefined || this.#recorded.has(`${step} ${chosen.name}`);
  }
}
