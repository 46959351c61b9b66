import type { LaunchPlan } from "../device/backend.js";
import type { Fusions } from "../program/fusions.js";
import { type Batch, isDecode } from "../run/batch.js";
import { planSplits } from "../run/split-plan.js";
import { mostSplits } from "./workspace.js";

/** Rows up to which reading every weight once per eight rows beats tiles of 64. */
const fewRows = 16;
/** Splits that the output projection merges itself (row-product.cu), and keys up to which those suffice. */
const fusedSplits = 8;
const fusedKeys = 1024;

export interface CudaPlan extends LaunchPlan {
  /** Input rows of a warp of the matrix-vector kernel; 0 for tiles. */
  readonly rows: 0 | 4 | 8;
  /** Whether the batch is one row, which has a kernel of its own. */
  readonly oneRow: boolean;
  /** The same of the rows that tokens are chosen from. */
  readonly oneLastRow: boolean;
  /** Where `rows` is 0: rows that there are at least, a power of two. */
  readonly tileRows: number;
  readonly decode: boolean;
  /** Whether the keys are split: states must be merged then. */
  readonly split: boolean;
}

/** How the kernels run a batch. */
export function planLaunches(batch: Batch, longest: number, fusions: Fusions, kvHeads: number): CudaPlan {
  const count = batch.tokenIds.length;
  const sequences = batch.seqIds.length;
  const decode = isDecode(batch);
  const merges = fusions.merge && count === 1 && longest <= fusedKeys;
  const splits = planSplits(longest, sequences, kvHeads, merges ? fusedSplits : mostSplits);
  const split = splits.splitCount > 1;
  const merge = merges && split && decode;
  const rows = count > fewRows ? 0 : count <= 4 ? 4 : 8;
  const oneRow = count === 1;
  const oneLastRow = sequences === 1;
  const tileRows = rows === 0 ? 2 ** Math.floor(Math.log2(count)) : 0;
  return {
    key: JSON.stringify([rows, oneRow, oneLastRow, tileRows, decode, decode && [split, merge]]),
    splits,
    fusions: { ...fusions, merge, prologue: fusions.prologue && decode },
    takesNorm: ({ lastRows }) => lastRows || rows > 0,
    rows,
    oneRow,
    oneLastRow,
    tileRows,
    decode,
    split,
  };
}
