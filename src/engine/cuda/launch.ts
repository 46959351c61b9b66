import type { Launch } from "../device/backend.js";
import type { BatchBuffer, BatchShape } from "../device/batch-buffer.js";
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
export interface KernelLaunch extends Launch {
  readonly kernel: BoundKernel;
  readonly grid: (shape: BatchShape) => Grid;
  /** Where graphs of lists with it are kept: those of its path. */
  readonly graphs?: Graphs;
  /** The batch that it moves on by a token per sequence. */
  readonly advances?: BatchBuffer;
}

/** What a library must be told of a batch before its kernels can run on it. */
export interface LibraryPlan {
  /** Whether runs may be captured in a graph: it is right for every later batch of its shape, planned anew. */
  readonly replayable: boolean;
  /** Plans the batch that comes next, unless the last plan holds for it; never inside of a capture. */
  prepare(): void;
}

/** Kernels that a library puts into the stream by itself. */
export interface LibraryLaunch extends Launch {
  readonly plan: LibraryPlan;
  readonly call: (shape: BatchShape) => void;
  readonly graphs?: Graphs;
}

export type CudaLaunch = KernelLaunch | LibraryLaunch;
