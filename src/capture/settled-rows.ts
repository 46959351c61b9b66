import type { GraphNode } from "../spec/graph.js";
import type { Op } from "../spec/op.js";

/** Unrecorded rows that rounding leaves open, as far as something that follows of them tells what they were. */
export class SettledRows {
  readonly #values = new Map<string, { op: Op; rows: Map<number, Float64Array> }>();

  /** What a row was; nothing for a rewrite of the op that it was settled under. */
  find(name: string, row: number, op: Op): Float64Array | undefined {
    const settled = this.#values.get(name);
    return settled?.op === op ? settled.rows.get(row) : undefined;
  }

  /** Notes what a row was, or with undefined that nobody knows. */
  note({ name, op }: GraphNode, row: number, value: Float64Array | undefined): void {
    const settled = this.#values.get(name) ?? { op, rows: new Map<number, Float64Array>() };
    this.#values.set(name, settled);
    if (value) settled.rows.set(row, value);
    else settled.rows.delete(row);
  }
}
