import type { Comparison } from "../bits/statistics.js";
import type { CauseEntries } from "./cause-entry.js";
import type { Hypothesis } from "./hypothesis.js";
import { solve } from "./least-squares.js";
import { hypothesesOf, isRecorded, lastName, type Proposal, type Search } from "./proposal.js";
import { affine, replaced } from "./transform.js";

/** Adapters have ranks up to this. */
const largestRank = 16;
/** A direction must hold this many times what the largest one of as much noise holds. */
const clearly = 1.3;
/** Every third row judges. */
const judges = (r: number) => r % 3 === 2;
const columnsUsed = 512;
/** Every fourth column says how much of each direction a row holds. */
const weighs = (i: number) => i % 4 === 0;

/** Deltas on a weight. */
export const lowRankCauses = {
  "low-rank-delta": {
    kind: "parameter",
    transform: "T19",
    legend:
      "A product multiplies by its weight plus a delta of low rank: an adapter left in, merged twice or taken off wrongly.",
    hiddenBy: "a delta below the rounding of the product",
    confusedWith: ["additive-constant", "weight-quantised", "reduction-incomplete"],
  },
} as const satisfies CauseEntries;

const hypothesis = hypothesesOf(lowRankCauses);

/**
 * A product whose error has few directions. Directions come from two rows in three; in the others, every fourth column says
 * how much of each and the rest judges.
 */
export const lowRankSearches: readonly Search[] = [
  {
    causes: ["low-rank-delta"],
    stage: "fitted",
    appliesTo: (proposal) => proposal.site.op.kind === "linear" && isRecorded(proposal),
    rewrites: lowRankDeltas,
  },
];

function lowRankDeltas({ site, finding }: Proposal): Hypothesis[] {
  const { comparison } = finding;
  const found = directions(comparison);
  if (!found) return [];
  const { basis, strengths, columns, ofRow, ofColumn } = found;
  const { rows, observed, expected } = comparison;
  const width = comparison.columns.length;
  const place = new Map(Array.from(columns, (c, i) => [comparison.columns[c]!, i]));
  const shares = new Map<number, Float64Array>();
  rows.forEach((row, r) => {
    const fit = sharesOf(
      basis,
      columns,
      (c, i) => (observed[r * width + c]! - expected[r * width + c]!) / ofColumn[i]!,
    );
    if (fit) shares.set(row, fit);
  });
  const rank = basis.length;
  if (shares.size < rows.length || (rank === 1 && isConstant([...shares.values()].map(([share]) => share!)))) return [];
  const offset = (row: number, column: number) => {
    const at = place.get(column);
    const share = shares.get(row);
    if (at === undefined || !share) return 0;
    return ofColumn[at]! * basis.reduce((sum, direction, k) => sum + share[k]! * direction[at]!, 0);
  };
  const noiseOf = new Map(Array.from(rows, (row, r) => [row, ofRow[r]!]));
  // Directions are as uncertain as the noise beside their strength, shares as one of so many columns says.
  const uncertain = (row: number, column: number) => {
    const share = shares.get(row);
    const at = place.get(column);
    if (!share || at === undefined) return Infinity;
    const ofDirections = strengths.reduce((sum, strength, k) => sum + (share[k]! / strength) ** 2, 0);
    return ofColumn[at]! ** 2 * (2 * ofDirections + (8 * rank * noiseOf.get(row)! ** 2) / columns.length);
  };
  const op = affine(site.op, { rank }, () => 1, offset, uncertain);
  return [
    hypothesis("low-rank-delta", site, [replaced(site, { op })], {
      fitted: rank * (rows.length + columns.length),
      heldOut: (r, c) => judges(r) && heldOutColumn(columns, c),
      parameters: { rank },
      statement: `${lastName(site.name)} multiplies by its weight plus a delta of rank ${rank}: an adapter (LoRA) left in, merged twice or taken off wrongly`,
      group: "low-rank-delta",
    }),
  ];
}

/** About the same error in every row is a constant, not a product. */
function isConstant(shares: readonly number[]): boolean {
  const most = Math.max(...shares);
  const least = Math.min(...shares);
  return most * least > 0 && Math.min(Math.abs(most), Math.abs(least)) > Math.max(Math.abs(most), Math.abs(least)) / 3;
}

function heldOutColumn(columns: readonly number[], c: number): boolean {
  const at = columns.indexOf(c);
  return at >= 0 && !weighs(at);
}

/** Orthonormal directions [columns used] of the errors of two rows in three, as many as stand out from rounding. */
function directions({ rows, columns, observed, expected, noise }: Comparison) {
  const stride = Math.max(1, Math.floor(columns.length / columnsUsed));
  const used = [...columns.keys()].filter((c) => c % stride === 0).slice(0, columnsUsed);
  const fitRows = [...rows.keys()].filter((r) => !judges(r));
  if (fitRows.length < 3 || used.length < 16) return undefined;
  // Noise as a number per row times one per column: dividing by both keeps the rank.
  const sigma = (r: number, c: number) => noise[r * columns.length + c]!;
  const ofRow = Float64Array.from(rows, (_, r) => median(used.map((c) => sigma(r, c))));
  const ofColumn = used.map((c) => median(Array.from(rows, (_, r) => sigma(r, c) / ofRow[r]!)));
  const errors = fitRows.map((r) =>
    Float64Array.from(used, (c, u) => {
      const i = r * columns.length + c;
      const error = (observed[i]! - expected[i]!) / (ofRow[r]! * ofColumn[u]!);
      return Number.isFinite(error) ? error : 0;
    }),
  );
  const basis: Float64Array[] = [];
  const strengths: number[] = [];
  // The largest direction of independent noise of size 1: Marchenko and Pastur, 1967.
  const ofNoise = Math.sqrt(used.length) + Math.sqrt(fitRows.length);
  // What is left of one row after all others' directions is rounding: at least one row must be that.
  for (let rank = 0; rank < Math.min(largestRank, fitRows.length - 1); rank++) {
    const direction = strongest(errors);
    if (!direction || direction.strength < clearly * ofNoise) break;
    basis.push(direction.unit);
    strengths.push(direction.strength);
    for (const row of errors) subtract(row, direction.unit);
  }
  const left = Math.max(...errors.map((row) => Math.hypot(...row)));
  if (basis.length === 0 || left > clearly * ofNoise) return undefined;
  return { basis, strengths, columns: used, ofRow, ofColumn };
}

function median(values: number[]): number {
  const sorted = values.filter(Number.isFinite).sort((a, b) => a - b);
  return sorted[sorted.length >> 1] || 1;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!;
  return sum;
}

function subtract(row: Float64Array, unit: Float64Array): void {
  const share = dot(row, unit);
  for (let i = 0; i < row.length; i++) row[i]! -= share * unit[i]!;
}

/** The direction that holds most of all rows, by power iteration from the largest row. */
function strongest(rows: readonly Float64Array[]): { unit: Float64Array; strength: number } | undefined {
  let unit = rows.reduce((a, b) => (dot(b, b) > dot(a, a) ? b : a)).slice();
  let strength = 0;
  for (let pass = 0; pass < 30; pass++) {
    const length = Math.sqrt(dot(unit, unit));
    if (!(length > 0)) return undefined;
    for (let i = 0; i < unit.length; i++) unit[i]! /= length;
    const shares = rows.map((row) => dot(row, unit));
    strength = Math.hypot(...shares);
    const next = new Float64Array(unit.length);
    rows.forEach((row, r) => {
      for (let i = 0; i < next.length; i++) next[i]! += shares[r]! * row[i]!;
    });
    unit = next;
  }
  const length = Math.sqrt(dot(unit, unit));
  return { unit: unit.map((x) => x / length), strength };
}

/** How much of each direction a row holds, from the columns that weigh: least squares. */
function sharesOf(
  basis: readonly Float64Array[],
  columns: readonly number[],
  error: (column: number, i: number) => number,
): Float64Array | undefined {
  const rank = basis.length;
  const normal = Array.from({ length: rank }, () => new Float64Array(rank + 1));
  columns.forEach((c, i) => {
    if (!weighs(i)) return;
    const seen = error(c, i);
    if (!Number.isFinite(seen)) return;
    for (let a = 0; a < rank; a++) {
      for (let b = 0; b < rank; b++) normal[a]![b]! += basis[a]![i]! * basis[b]![i]!;
      normal[a]![rank]! += basis[a]![i]! * seen;
    }
  });
  return solve(normal);
}
