import type { GraphNode } from "../../spec/graph.js";
import { indices } from "../../spec/op.js";
import type { RowTable } from "../../spec/rows.js";

/** Elements of a value that are checked: every listed column of every listed row. */
export interface Sample {
  readonly rows: Int32Array;
  readonly columns: Int32Array;
}

/** A small deterministic generator (mulberry32): the same recording is always sampled the same way. */
export function randomGenerator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Seed from a name. */
export function seedOf(text: string): number {
  let hash = 2166136261;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 16777619);
  return hash >>> 0;
}

export interface SampleLimits {
  readonly rows: number;
  readonly columns: number;
}

/**
 * Draws rows and columns of a value. Rows: first and last of each sequence, rows beside multiples of 16 and 64 (pages and
 * tiles), those in `suspects`, then random ones. Columns: the edges of every head and of the row, then random ones.
 */
export function drawSample(
  node: GraphNode,
  candidates: Int32Array,
  table: RowTable,
  limits: SampleLimits,
  suspects: Iterable<number> = [],
): Sample {
  const random = randomGenerator(seedOf(node.name));
  return {
    rows: drawRows(candidates, table, limits.rows, suspects, random),
    columns: drawColumns(node, limits.columns, random),
  };
}

function drawRows(
  candidates: Int32Array,
  table: RowTable,
  limit: number,
  suspects: Iterable<number>,
  random: () => number,
): Int32Array {
  if (candidates.length <= limit) return candidates;
  const chosen = new Set<number>();
  const take = (row: number, share: number) => {
    if (chosen.size < limit * share) chosen.add(row);
  };
  for (const row of suspects) take(row, 0.25);
  candidates.forEach((row, i) => {
    const edge = i === 0 || i === candidates.length - 1 || table.position[row] === 0 || table.isLast(row);
    if (edge) take(row, 0.5);
  });
  for (const multiple of [64, 16]) {
    for (const row of candidates) if ([0, multiple - 1].includes(table.position[row]! % multiple)) take(row, 0.75);
  }
  while (chosen.size < limit) chosen.add(candidates[Math.floor(random() * candidates.length)]!);
  return Int32Array.from(chosen).sort();
}

function drawColumns(node: GraphNode, limit: number, random: () => number): Int32Array {
  if (node.columns <= limit) return indices(node.columns);
  const chosen = new Set<number>([0, node.columns - 1]);
  const width = node.heads ? node.columns / node.heads : 64;
  for (let edge = width; edge < node.columns && chosen.size < limit / 4; edge += width) chosen.add(edge - 1).add(edge);
  while (chosen.size < limit) chosen.add(Math.floor(random() * node.columns));
  return Int32Array.from(chosen).sort();
}
