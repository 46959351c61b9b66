import { byteWidth, floatFormat, unitInLastPlace } from "../../tensor/dtype.js";
import { roundAll } from "../../tensor/rounding.js";
import { computeVariance, storeVariance } from "../noise.js";
import {
  emptyBlock,
  type MutableBlock,
  type Op,
  type OpContext,
  type OpRounding,
  raiseJump,
  storedVariance,
  usableVariance,
} from "../op.js";
import type { Recipe } from "../recipe.js";

export interface AllReduceAttributes {
  /** How often each rank's term counts; 1 unless a rewrite says otherwise. */
  readonly weights: readonly number[];
  /** Parameter [columns], added to the sum. */
  readonly bias?: string | undefined;
}

const sums: readonly Recipe[] = [
  {
    id: "sum-once",
    title: "terms added in float32, one rounding",
    known: [
      "NCCL within a switch (NVLS)",
      "custom all-reduce kernels of vLLM and SGLang",
      "two ranks, however they add",
    ],
    settings: { running: false, ring: false, biasAfter: false },
  },
  {
    id: "sum-ring",
    title: "every sum on the way around a ring is stored; a chunk for each rank, from the rank before it downwards",
    known: ["gloo"],
    settings: { running: true, ring: true, biasAfter: false },
  },
  {
    id: "sum-running",
    title: "every sum on the way is stored, in an order of the transport's own",
    known: ["NCCL rings and trees"],
    settings: { running: true, ring: false, biasAfter: false },
  },
];

/**
 * The sum of every rank's term, equal on all ranks: inputs are the terms by rank, [rows, columns] each. A transport may
 * keep the sums on its way in the stored type, and goes around in an order of its own that differs from chunk to chunk.
 */
export function allReduce(attributes: AllReduceAttributes): Op {
  const { weights, bias } = attributes;
  const after = sums.map((recipe) => ({
    ...recipe,
    id: `${recipe.id}-bias-after`,
    title: `${recipe.title}; stored before the bias is added`,
    settings: { ...recipe.settings, biasAfter: true },
  }));
  return {
    kind: "all-reduce",
    attributes: { ...attributes },
    recipes: bias ? [...sums, ...after] : sums,
    evaluate(context, rows, columns) {
      const { input, noise, rounding, parameters, precision } = context;
      const out = emptyBlock(rows.length * columns.length, noise);
      const squares = new Float64Array(out.value.length);
      const ring = rounding?.settings.ring === true ? aroundRing(context, weights, rows, columns) : undefined;
      const added = weights.filter((weight) => weight !== 0).length;
      for (const [rank, weight] of weights.entries()) {
        if (weight === 0) continue;
        const term = input(rank, rows, columns);
        for (let i = 0; i < out.value.length; i++) {
          const x = weight * term.value[i]!;
          out.value[i]! += x;
          squares[i]! += x * x;
          if (!noise) continue;
          out.variance[i]! += weight * weight * usableVariance(term, i);
          if (term.jump) raiseJump(out, i, Math.abs(weight) * term.jump[i]!);
        }
      }
      if (ring) out.value.set(ring);
      if (noise) addOrder(out, squares, added, rounding, precision.store);
      if (!bias) return out;
      if (rounding?.settings.biasAfter) storeSum(out, rounding, noise);
      const biases = parameters.rows(bias, 0, 1);
      for (let i = 0; i < out.value.length; i++) {
        const x = biases[columns[i % columns.length]!]!;
        if (noise && !rounding) out.variance[i]! += storeVariance(out.value[i]!, precision.store);
        out.value[i]! += x;
        if (noise) out.variance[i]! += computeVariance * x * x;
      }
      return out;
    },
  };
}

/** What the order of summation leaves open: float32 sums, and those on the way where they are stored. */
function addOrder(
  out: MutableBlock,
  squares: Float64Array,
  terms: number,
  rounding: OpRounding | undefined,
  store: OpRounding["store"],
): void {
  const running =
    terms > 2 &&
    rounding?.settings.ring !== true &&
    (rounding ? rounding.settings.running === true : store !== "float32");
  const type = rounding?.store ?? store;
  const format = floatFormat(type);
  for (let i = 0; i < out.value.length; i++) {
    // Sums on the way are no larger than all terms together, which are at most sqrt(n Σ term²).
    const size = Math.sqrt(terms * squares[i]!);
    out.variance[i]! += terms > 1 ? (terms - 1) * computeVariance * size * size : 0;
    if (!running) continue;
    out.variance[i]! += (terms - 2) * storeVariance(size, type);
    if (format) raiseJump(out, i, unitInLastPlace(size, format) / 2);
  }
}

/** Largest stretch of a buffer that gloo sends at a time, in bytes. */
const ringSegment = 2 ** 20;

/**
 * Sums as they go around gloo's ring: the buffer of a step, row after row, is cut into a chunk for each rank; chunk c is
 * begun by the rank before c and goes downwards to c itself. Each sum on the way is stored.
 */
function aroundRing(
  { input, rows: table, rounding, width }: OpContext,
  weights: readonly number[],
  rows: Int32Array,
  columns: Int32Array,
): Float64Array {
  const { store } = rounding!;
  const ranks = weights.length;
  const terms = weights.map((weight, rank) => input(rank, rows, columns).value.map((x) => weight * x));
  const chunks = Int32Array.from({ length: rows.length * columns.length }, (_, i) => {
    const row = rows[Math.floor(i / columns.length)]!;
    const { firstRow, rowCount } = table.steps[table.stepOf[row]!]!;
    const bytes = rowCount * width(0) * byteWidth(store);
    const segments = Math.max(2, Math.ceil(bytes / ranks / ringSegment));
    const chunk = segments * Math.ceil(bytes / (segments * ranks) / byteWidth(store));
    return Math.floor(((row - firstRow) * width(0) + columns[i % columns.length]!) / chunk);
  });
  const out = new Float64Array(chunks.length);
  for (let k = 0; k < ranks; k++) {
    for (let i = 0; i < out.length; i++) out[i]! += terms[(chunks[i]! + 2 * ranks - 1 - k) % ranks]![i]!;
    if (k < ranks - 1) roundAll(out, store);
  }
  return out;
}

function storeSum(out: MutableBlock, { store }: OpRounding, noise: boolean): void {
  for (let i = 0; noise && i < out.value.length; i++) {
    out.variance[i] = storedVariance(out, i, out.value[i]!, out.variance[i]!, store);
  }
  roundAll(out.value, store);
}
