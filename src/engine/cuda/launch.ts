import type { Launch } from "../device/backend.js";
import type { BatchShape } from "../device/batch-buffer.js";
import type { Graphs } from "./graphs.js";
import type { KernelBlock } from "./tensor-blocks.js";

export type Grid = readonly [number, number, number];

/** A kernel's function with its one argument. */
export interface BoundKernel extends KernelBlock {
  /** CUfunction */
  readonly handle: number;
  readonly argument: Uint8Array;
}

/** A kernel bound to its operands; the grid follows from the batch. */
export interface CudaLaunch extends Launch {
  readonly kernel: BoundKernel;
  readonly grid: (shape: BatchShape) => Grid;
  /** Where graphs of lists with it are kept: those of its path. */
  readonly graphs?: Graphs;
}
