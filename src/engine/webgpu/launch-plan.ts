import type { LaunchPlan } from "../device/backend.js";
import type { Fusions } from "../program/fusions.js";
import { type Batch, isDecode } from "../run/batch.js";
import { planSplits } from "../run/split-plan.js";
import { type ProductMode, productMode } from "./products.js";
import { mostSplits } from "./workspace.js";

/** Splits that the output projection merges itself. */
const fusedSplits = 8;
/** Keys up to which those suffice, and rows up to which merging in every workgroup of the product costs little. */
const fusedKeys = 1024;
const fusedRows = 16;

export interface GpuPlan extends LaunchPlan {
  readonly mode: ProductMode;
  readonly decode: boolean;
  /** Whether the keys are split: states must be merged then. */
  readonly split: boolean;
  /** Splits that a product which merges has room for; every one costs loads, present or not. */
  readonly mergedSplits: number;
}

/** How the kernels run a batch. */
export function planLaunches(
  batch: Batch,
  longest: number,
  fusions: Fusions,
  kvHeads: number,
  features: ReadonlySet<string>,
): GpuPlan {
  const rows = batch.tokenIds.length;
  const sequences = batch.seqIds.length;
  const decode = isDecode(batch);
  const merges = fusions.merge && longest <= fusedKeys && rows <= fusedRows;
  const splits = planSplits(longest, sequences, kvHeads, merges ? fusedSplits : mostSplits);
  const split = splits.splitCount > 1;
  const merge = merges && split && decode;
  // Few variants, so that a growing context seldom has to wait for a compilation.
  const mergedSplits = merge ? Math.ceil(splits.splitCount / 2) * 2 : 1;
  const mode = productMode(features, rows);
  return {
    key: JSON.stringify([mode, decode, decode && [split, merge, mergedSplits]]),
    splits,
    fusions: { ...fusions, merge, prologue: fusions.prologue && decode },
    takesNorm: ({ lastRows }) => lastRows || mode.columns > 0,
    mode,
    decode,
    split,
    mergedSplits,
  };
}
