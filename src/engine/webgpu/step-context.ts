import type { BatchShape } from "../device/batch-buffer.js";
import type { PathMemory } from "../device/path-memory.js";
import type { Places } from "../device/places.js";
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
