import type { StepKernels } from "../device/backend.js";
import type { PathMemory } from "../device/path-memory.js";
import type { Places } from "../device/places.js";
import type { Fusions } from "../program/fusions.js";
import type { KernelStep } from "../program/step.js";
import type { Batch } from "../run/batch.js";
import type { PathAttention } from "./attention-library.js";
import { append, attend, rotate } from "./attention-steps.js";
import { chooseTokens } from "./choice-kernels.js";
import type { Cuda } from "./cuda.js";
import { Graphs } from "./graphs.js";
import type { CudaLaunch } from "./launch.js";
import { type CudaPlan, planLaunches } from "./launch-plan.js";
import { NarrowCopies } from "./narrow-copies.js";
import { embed, norm, pointwise, project } from "./product-steps.js";
import type { StepContext } from "./step-context.js";
import { widenInputs } from "./widened-inputs.js";
import { Workspace } from "./workspace.js";

/** The kernels of one path, each bound to its operands once, and the graphs of its batches. */
export class CudaStepKernels implements StepKernels {
  readonly #workspace: Workspace;
  readonly #narrow: NarrowCopies;
  readonly #graphs: Graphs;
  readonly #library: PathAttention | undefined;
  readonly #choices = new Map<string, readonly CudaLaunch[]>();

  constructor(
    readonly cuda: Cuda,
    readonly memory: PathMemory,
  ) {
    this.#workspace = new Workspace(cuda, memory);
    this.#narrow = new NarrowCopies(cuda, memory);
    this.#graphs = new Graphs(cuda.stream);
    this.#library = cuda.library?.path(cuda, memory);
  }

  plan(batch: Batch, longest: number, fusions: Fusions): CudaPlan {
    // A library neither rotates nor leaves states to be merged.
    const carried = this.#library ? { ...fusions, prologue: false, merge: false } : fusions;
    return planLaunches(batch, longest, carried, this.memory.store.options.heads);
  }

  async compile(step: KernelStep, plan: CudaPlan, places: Places, captured: boolean): Promise<readonly CudaLaunch[]> {
    const { cuda, memory } = this;
    const kept = { workspace: this.#workspace, narrow: this.#narrow, library: this.#library };
    const { launches, context } = widenInputs(step, { modules: cuda.modules, memory, ...kept, plan, places, captured });
    return this.#kept([...launches, ...launchesOf(step, context)]);
  }

  async choose(options: { readonly nucleus: boolean; readonly advance: boolean }): Promise<readonly CudaLaunch[]> {
    const key = JSON.stringify([options.nucleus, options.advance]);
    let launches = this.#choices.get(key);
    if (!launches) {
      launches = this.#kept(chooseTokens(this.cuda.modules, this.memory, this.#workspace, options));
      this.#choices.set(key, launches);
    }
    return launches;
  }

  destroy(): void {
    this.#graphs.destroy();
    this.#library?.destroy();
    this.#workspace.destroy();
    this.#narrow.destroy();
  }

  #kept(launches: readonly CudaLaunch[]): CudaLaunch[] {
    return launches.map((launch) => ({ ...launch, graphs: this.#graphs }));
  }
}

function launchesOf(step: KernelStep, context: StepContext): CudaLaunch[] {
  switch (step.kind) {
    case "embed":
      return [embed(step, context)];
    case "norm":
      return [norm(step, context)];
    case "project":
      return project(step, context);
    case "rotate":
      return [rotate(step, context)];
    case "append":
      return append(step, context);
    case "attend":
      return context.library ? context.library.attend(step, context) : attend(step, context);
    case "pointwise":
      return [pointwise(step, context)];
  }
}
