import type { Sample } from "../bits/sample.js";
import type { UnitCheck } from "../check/investigation.js";
import { farthestZ } from "./remainder.js";

interface Limits {
  readonly rows: number;
  readonly columns: number;
}

/** A small sample with the worst rows and columns in it. */
export function probeSample(check: UnitCheck): Sample {
  return worstOf(check, { rows: 8, columns: 64 });
}

/** A smaller one, of the same kind: what does not even look better there is ruled out. */
export function glanceSample(check: UnitCheck): Sample {
  return worstOf(check, { rows: 2, columns: 16 });
}

function worstOf({ comparison, bits }: UnitCheck, limits: Limits): Sample {
  const { rows, columns, z } = comparison;
  // Under a recipe it is the bits that tell what is wrong, however far the plain spec is from everything else.
  const beyond = new Set(bits?.worst);
  const ofRow = new Float64Array(rows.length);
  const ofColumn = new Float64Array(columns.length);
  for (let i = 0; i < z.length; i++) {
    const r = Math.floor(i / columns.length);
    const c = i % columns.length;
    const off = Math.abs(z[i]!) + (beyond.has(i) ? farthestZ : 0);
    if (off > ofRow[r]!) ofRow[r] = off;
    if (off > ofColumn[c]!) ofColumn[c] = off;
  }
  return {
    rows: spreadAndWorst(rows, ofRow, limits.rows / 2, limits.rows),
    columns: spreadAndWorst(columns, ofColumn, limits.columns / 8, limits.columns),
  };
}

/** The `worst` ones, and an even spread of the others up to `limit`. */
function spreadAndWorst(from: Int32Array, off: Float64Array, worst: number, limit: number): Int32Array {
  const byOff = [...from.keys()].sort((a, b) => off[b]! - off[a]!);
  const chosen = new Set(byOff.slice(0, worst).map((i) => from[i]!));
  const step = Math.max(1, Math.floor(from.length / (limit - worst)));
  for (let i = 0; i < from.length && chosen.size < limit; i += step) chosen.add(from[i]!);
  return Int32Array.from(chosen).sort();
}
