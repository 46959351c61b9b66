import type { BatchShape } from "../device/batch-buffer.js";
import type { PathMemory } from "../device/path-memory.js";
import type { Places } from "../device/places.js";
import type { PathAttention } from "./attention-library.js";
import type { KernelName } from "./kernel-table.js";
import type { Grid, KernelLaunch } from "./launch.js";
import type { CudaPlan } from "./launch-plan.js";
import type { KernelValues, Modules } from "./modules.js";
import type { NarrowCopies } from "./narrow-copies.js";
import type { Workspace } from "./workspace.js";

/** What a step is compiled with. */
export interface StepContext {
  readonly modules: Modules;
  readonly memory: PathMemory;
  readonly workspace: Workspace;
  readonly narrow: NarrowCopies;
  readonly plan: CudaPlan;
  readonly places: Places;
  /** Whether values that a fused kernel would keep to itself are wanted too. */
  readonly captured: boolean;
  /** Attention by a library in place of the kernels here. */
  readonly library: PathAttention | undefined;
}

/** One launch of a kernel. */
export function launch<Name extends KernelName>(
  modules: Modules,
  label: string,
  name: Name,
  values: KernelValues<Name>,
  grid: (shape: BatchShape) => Grid,
  variant?: string,
): KernelLaunch {
  return { label, kernel: modules.bind(name, values, variant), grid };
}
