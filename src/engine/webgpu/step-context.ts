import type { BatchShape } from "../device/batch-buffer.js";
import type { PathMemory } from "../device/path-memory.js";
import type { Place, Places } from "../device/places.js";
import type { Dispatch, Grid } from "./dispatch.js";
import type { Gpu } from "./gpu.js";
import { type Constants, type KernelName, kernel } from "./kernels.js";
import type { GpuPlan } from "./launch-plan.js";
import type { Operand } from "./pipelines.js";
import type { Workspace } from "./workspace.js";

/** What a step is compiled with. */
export interface StepContext {
  readonly gpu: Gpu;
  readonly memory: PathMemory;
  readonly workspace: Workspace;
  readonly plan: GpuPlan;
  readonly places: Places;
  /** Whether values that a fused kernel would keep to itself are wanted too. */
  readonly captured: boolean;
  /** A parameter block of these bytes, one for all launches that need the same. */
  parameters(bytes: Uint8Array<ArrayBuffer>): Operand;
}

/** One launch of a kernel. */
export async function dispatch(
  gpu: Gpu,
  label: string,
  name: KernelName,
  constants: Constants,
  operands: Readonly<Record<string, Operand>>,
  grid: (shape: BatchShape) => Grid,
): Promise<Dispatch> {
  const program = await kernel(gpu, name, constants);
  return { label, kernel: program, group: program.bind(operands), grid };
}

/** Channels of a row of a value. */
export function columnsOf({ shape }: Place): number {
  return shape.reduce((product, n) => product * n, 1);
}

/**
 * Memory of a value whose rows follow one another.
 * @throws Error when they do not: the kernel could not address them.
 */
export function dense(place: Place, label: string): Operand {
  if (place.offset !== 0 || place.rowStride !== columnsOf(place)) {
    throw new Error(`${label}: the kernel takes rows that follow one another`);
  }
  return place.buffer;
}
