import type { GraphNode } from "../../spec/graph.js";
import type { Proposal } from "./proposal.js";

const passes = 5;
/** Rows whose elements decide: the last ones, which see most keys. */
const rowsUsed = 12;
/** Relative change by which a slope is measured. */
const step = 1e-3;

export interface FittedNumber {
  readonly value: number;
  /** The number as people write it: the shortest within its error. */
  readonly round: number;
  readonly error: number;
}

/**
 * The number, near `start`, that leaves least of the finding's even columns when `rewrite` writes it into the spec: Gauss
 * and Newton, from the change that the number makes. Undefined where it makes none, or where it is `start` to within its
 * error.
 */
export function fitNumber(
  { finding, investigation }: Proposal,
  start: number,
  rewrite: (value: number) => readonly GraphNode[],
): FittedNumber | undefined {
  const { rows, columns, observed, noise } = finding.comparison;
  const first = Math.max(0, rows.length - rowsUsed);
  const chosen = rows.subarray(first);
  const even = columns.filter((_, c) => c % 2 === 0);
  const plain = investigation.quiet;
  const at = (value: number) => plain.rewritten(rewrite(value)).evaluate(finding.node.name, chosen, even).value;
  let value = start;
  let error = Infinity;
  for (let pass = 0; pass < passes; pass++) {
    const here = at(value);
    const change = step * Math.max(Math.abs(value), 1e-3);
    const moved = at(value + change);
    let cross = 0;
    let power = 0;
    let left = 0;
    let count = 0;
    for (let i = 0; i < here.length; i++) {
      const r = Math.floor(i / even.length);
      const at = (first + r) * columns.length + 2 * (i % even.length);
      const sigma = noise[at]!;
      if (!Number.isFinite(sigma) || sigma === 0 || !Number.isFinite(observed[at]!)) continue;
      const slope = (moved[i]! - here[i]!) / change / sigma;
      const off = (observed[at]! - here[i]!) / sigma;
      cross += slope * off;
      power += slope * slope;
      left += off * off;
      count++;
    }
    const largest = Math.max(Math.abs(value), 1e-3) / 2;
    const move = cross / power;
    if (!Number.isFinite(move)) return undefined;
    value += Math.max(-largest, Math.min(largest, move));
    error = Math.sqrt(Math.max(1, left / count) / power);
  }
  const near = 4 * error;
  if (Math.abs(value - start) < near) return undefined;
  const rounded = [1, 2, 3, 4, 5].map((digits) => Number(value.toPrecision(digits)));
  const round = rounded.find((candidate) => Math.abs(candidate - value) < near) ?? rounded.at(-1)!;
  return { value, round, error };
}
