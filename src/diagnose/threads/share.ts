import type { Investigation } from "../check/investigation.js";
import { batchesOf, costsOf } from "./batches.js";

/** One of several shares of a diagnosis: 1 up to `of`. */
export interface Share {
  readonly part: number;
  readonly of: number;
}

/** Batches per share: the dearest first and in turn, so that all shares cost about the same. */
const batchesPerShare = 8;

/** The units that a share has to check: each unit is in one of them, whoever asks. */
export function unitsOfShare(investigation: Investigation, { part, of }: Share): ReadonlySet<string> {
  const costs = costsOf(investigation);
  const total = [...costs.values()].reduce((sum, cost) => sum + cost, 0);
  const batches = batchesOf(investigation.units(), costs, total / (of * batchesPerShare));
  return new Set(batches.filter((_, i) => i % of === part - 1).flat());
}
