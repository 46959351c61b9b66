import type { Graph } from "../../spec/graph.js";
import type { AttentionCall } from "../device/attention-call.js";
import type { KvStoreOptions } from "../device/kv-store.js";
import type { PathMemory } from "../device/path-memory.js";
import type { Place } from "../device/places.js";
import type { AttendStep } from "../program/step.js";
import type { Cuda } from "./cuda.js";
import type { CudaLaunch } from "./launch.js";
import type { StepContext } from "./step-context.js";

/** Somebody else's attention in place of this back end's own. */
export interface AttentionLibrary {
  readonly name: string;
  /** A path's attention. @throws Error in one sentence when the library cannot carry out what the path asks. */
  path(cuda: Cuda, memory: PathMemory): PathAttention;
  /** @throws Error in one sentence when something in the spec or the cache is not for the library. */
  requireSupported(graph: Graph, store: Pick<KvStoreOptions, "headDim" | "dtype">): void;
  /** One call by itself. */
  attend(cuda: Cuda, call: AttentionCall): void;
  destroy(): void;
}

/** A library's attention in the memory of one path. */
export interface PathAttention {
  /** Where queries that nobody else reads are to be left, as the library takes them; undefined for any other value. */
  queryPlace(name: string): Place | undefined;
  /** Attention of one step, and where it leaves the output. */
  attend(step: AttendStep, context: StepContext): CudaLaunch[];
  destroy(): void;
}
