import type { StepKernels } from "../device/backend.js";
import type { PathMemory } from "../device/path-memory.js";
import type { Places } from "../device/places.js";
import type { Fusions } from "../program/fusions.js";
import type { KernelStep } from "../program/step.js";
import type { Batch } from "../run/batch.js";
import { append, attend, rotate } from "./attention-steps.js";
import { chooseTokens } from "./choice-kernels.js";
import type { Dispatch } from "./dispatch.js";
import type { Gpu } from "./gpu.js";
import { type GpuPlan, planLaunches } from "./launch-plan.js";
import { embed, norm, pointwise, project } from "./product-steps.js";
import type { StepContext } from "./step-context.js";
import { Workspace } from "./workspace.js";

/** The kernels of one path, each bound to its operands once. */
export class GpuStepKernels implements StepKernels {
  readonly #workspace: Workspace;
  readonly #parameters = new Map<string, GPUBuffer>();
  readonly #choices = new Map<string, Promise<Dispatch[]>>();

  constructor(
    readonly gpu: Gpu,
    readonly memory: PathMemory,
  ) {
    this.#workspace = new Workspace(gpu, memory);
  }

  plan(batch: Batch, longest: number, fusions: Fusions): GpuPlan {
    return planLaunches(batch, longest, fusions, this.memory.store.options.heads, this.gpu.features);
  }

  compile(step: KernelStep, plan: GpuPlan, places: Places, captured: boolean): Promise<Dispatch[]> {
    const { gpu, memory } = this;
    const parameters = (bytes: Uint8Array<ArrayBuffer>) => this.#block(bytes);
    const context: StepContext = { gpu, memory, workspace: this.#workspace, plan, places, captured, parameters };
    switch (step.kind) {
      case "embed":
        return embed(step, context);
      case "norm":
        return norm(step, context);
      case "project":
        return project(step, context);
      case "rotate":
        return rotate(step, context);
      case "append":
        return append(step, context);
      case "attend":
        return attend(step, context);
      case "pointwise":
        return pointwise(step, context);
    }
  }

  choose(options: { readonly nucleus: boolean; readonly advance: boolean }): Promise<Dispatch[]> {
    const key = JSON.stringify([options.nucleus, options.advance]);
    let dispatches = this.#choices.get(key);
    if (!dispatches) {
      dispatches = chooseTokens(this.gpu, this.memory, this.#workspace, options);
      this.#choices.set(key, dispatches);
    }
    return dispatches;
  }

  destroy(): void {
    this.#workspace.destroy();
    for (const block of this.#parameters.values()) block.destroy();
  }

  #block(bytes: Uint8Array<ArrayBuffer>): GPUBuffer {
    const key = bytes.join();
    let block = this.#parameters.get(key);
    if (!block) {
      block = this.gpu.upload("parameters", bytes, "parameters");
      this.#parameters.set(key, block);
    }
    return block;
  }
}
