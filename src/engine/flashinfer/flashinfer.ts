import type { Graph } from "../../spec/graph.js";
import { InputError } from "../../tensor/errors.js";
import type { AttentionLibrary } from "../cuda/attention-library.js";
import type { Cuda } from "../cuda/cuda.js";
import type { Stream } from "../cuda/stream.js";
import type { AttentionCall } from "../device/attention-call.js";
import type { KvStoreOptions } from "../device/kv-store.js";
import type { PathMemory } from "../device/path-memory.js";
import { attributesOf, refuse } from "../program/typed-node.js";
import { attendOnce } from "./attention-call.js";
import { BatchDecode } from "./batch-decode.js";
import { BatchPrefill } from "./batch-prefill.js";
import { type Geometry, headDims, moduleOf, requireGeometry } from "./geometry.js";
import { findModule, findRuntime } from "./module-folder.js";
import { type AttentionModule, moduleName } from "./module-names.js";
import { NormModule } from "./norm-module.js";
import { PageModule } from "./page-module.js";
import { FlashInferPath } from "./path-attention.js";
import { Planner } from "./planner.js";
import { RopeModule } from "./rope-module.js";
import { TvmLibrary } from "./tvm-library.js";
import { FloatWorkspace, PlanWorkspace } from "./workspace.js";

/** What a planner is for: the module, its geometry, and the mask and graphs that its plans are made for. */
export interface PlannerKind {
  readonly kind: AttentionModule["kind"];
  readonly geometry: Geometry;
  readonly causal: boolean;
  readonly graph: boolean;
}

/** The user's own FlashInfer as the attention of a device. Modules are looked for and loaded when they are first needed. */
export class FlashInfer implements AttentionLibrary {
  readonly name = "FlashInfer";
  readonly #library: TvmLibrary;
  readonly #floats: FloatWorkspace;
  readonly #planners = new Map<string, { readonly planner: Planner; readonly workspace: PlanWorkspace }>();

  /** @throws Error in one sentence when its runtime is not there. */
  constructor(readonly stream: Stream) {
    this.#library = TvmLibrary.load(stream.driver.koffi, findRuntime());
    this.#library.setStream(stream.handle);
    this.#floats = new FloatWorkspace(stream);
  }

  requireSupported(graph: Graph, { dtype }: Pick<KvStoreOptions, "dtype">): void {
    if (dtype !== "bfloat16") {
      throw new InputError(
        `FlashInfer's attention takes keys and values in bfloat16, the KV cache is to hold ${dtype}`,
      );
    }
    for (const node of graph.nodes.values()) {
      if (node.op.kind !== "attention") continue;
      const { headDim } = attributesOf(node, "attention");
      if (!headDims.includes(headDim)) {
        refuse(node, `${headDim} channels of a head, FlashInfer has modules for ${headDims.join(", ")}`);
      }
    }
  }

  path(cuda: Cuda, memory: PathMemory): FlashInferPath {
    this.requireSupported(memory.graph, memory.store.options);
    try {
      return new FlashInferPath(this, cuda, memory);
    } catch (error) {
      throw error instanceof InputError ? error : new InputError((error as Error).message);
    }
  }

  attend(cuda: Cuda, call: AttentionCall): void {
    attendOnce(this, cuda, call);
  }

  /** The planner of a kind, one for all who ask. @throws Error in one sentence when its module is not there. */
  planner(wanted: PlannerKind): Planner {
    const key = JSON.stringify(wanted);
    const known = this.#planners.get(key);
    if (known) return known.planner;
    const { kind, geometry, causal, graph } = wanted;
    requireGeometry(kind, geometry);
    const name = moduleName(moduleOf(kind, geometry));
    const path = findModule(name, buildWords(geometry));
    const plan = new PlanWorkspace(this.stream);
    try {
      const make = kind === "decode" ? BatchDecode : BatchPrefill;
      const planner = new Planner(
        new make(this.#library, path, { float: this.#floats, plan }, geometry),
        causal,
        graph,
      );
      this.#planners.set(key, { planner, workspace: plan });
      return planner;
    } catch (error) {
      plan.destroy();
      throw error;
    }
  }

  /** Its append. @throws Error in one sentence when the module is not there, as the others do. */
  page(): PageModule {
    return new PageModule(this.#library, findModule("page", ""));
  }

  norm(): NormModule {
    return new NormModule(this.#library, findModule("norm", ""));
  }

  rope(): RopeModule {
    return new RopeModule(this.#library, findModule("rope", ""));
  }

  destroy(): void {
    for (const { planner, workspace } of this.#planners.values()) {
      planner.destroy();
      workspace.destroy();
    }
    this.#floats.destroy();
    this.#library.destroy();
  }
}

/** Options of `faultline flashinfer build` that make the modules of a geometry. */
function buildWords({ headDim, windowLeft, softCap }: Geometry): string {
  return [`--head-dim ${headDim}`, windowLeft >= 0 ? "--window" : "", softCap > 0 ? "--soft-cap" : ""]
    .filter((word) => word !== "")
    .join(" ");
}
