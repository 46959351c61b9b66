import { RoundedArithmetic, type SummationChoices } from "../spec/arithmetic.js";
import type { Op } from "../spec/op.js";

export interface OrderChoices extends SummationChoices {
  /** Sums that run beside each other, each over every n-th term, as vector lanes do; 1 for one running sum. */
  readonly lanes: number;
  /** Whether products enter the sum unrounded (fused multiply-add). */
  readonly fused: boolean;
}

/** Float32 arithmetic in one of the orders that kernels use. */
export class OrderedArithmetic extends RoundedArithmetic {
  constructor(readonly order: OrderChoices) {
    super(order);
    this.#lanes = new Float64Array(order.lanes);
    this.#inner = new Float64Array(order.lanes);
  }

  #terms = new Float64Array(0);
  readonly #lanes: Float64Array;
  readonly #inner: Float64Array;

  override dot(a: Float64Array, aStart: number, b: Float64Array, bStart: number, n: number): number {
    const terms = this.#scratch(n);
    for (let i = 0; i < n; i++) terms[i] = a[aStart + i]! * b[bStart + i]!;
    if (!this.order.fused) for (let i = 0; i < n; i++) terms[i] = Math.fround(terms[i]!);
    return this.#total(terms, n);
  }

  override sum(a: Float64Array, start: number, n: number): number {
    const terms = this.#scratch(n);
    for (let i = 0; i < n; i++) terms[i] = a[start + i]!;
    return this.#total(terms, n);
  }

  #scratch(n: number): Float64Array {
    if (this.#terms.length < n) this.#terms = new Float64Array(n);
    return this.#terms;
  }

  #total(terms: Float64Array, n: number): number {
    const { lanes, block, reversed } = this.order;
    const partial = this.#lanes.fill(0);
    const inner = this.#inner;
    for (let first = 0; first < n; first += block * lanes) {
      const end = Math.min(first + block * lanes, n);
      inner.fill(0);
      for (let i = first, lane = 0; i < end; i++, lane = lane + 1 === lanes ? 0 : lane + 1) {
        inner[lane] = Math.fround(inner[lane]! + terms[reversed ? n - 1 - i : i]!);
      }
      for (let lane = 0; lane < lanes; lane++) partial[lane] = Math.fround(partial[lane]! + inner[lane]!);
    }
    // Lanes are added as a tree, the way subgroups and vector units reduce.
    for (let width = lanes; width > 1; width = Math.ceil(width / 2)) {
      const half = Math.ceil(width / 2);
      for (let i = 0; i + half < width; i++) partial[i] = Math.fround(partial[i]! + partial[i + half]!);
    }
    return partial[0]!;
  }
}

/** The same op in an arithmetic of its own. */
export function withArithmetic(op: Op, choices: OrderChoices): Op {
  const arithmetic = new OrderedArithmetic(choices);
  return { ...op, evaluate: (context, rows, columns) => op.evaluate({ ...context, arithmetic }, rows, columns) };
}
