import type { Graph } from "../../spec/graph.js";
import type { Fusions } from "../program/fusions.js";
import type { KernelStep, ProjectStep } from "../program/step.js";
import type { Batch } from "../run/batch.js";
import type { SplitPlan } from "../run/split-plan.js";
import type { AppendCall, AttentionCall, MergeCall } from "./attention-call.js";
import type { BatchShape } from "./batch-buffer.js";
import type { PathMemory } from "./path-memory.js";
import type { Places } from "./places.js";

/** Memory of a device. */
export interface DeviceBuffer {
  readonly label: string;
  /** Bytes, at least those asked for. */
  readonly size: number;
  destroy(): void;
}

/** What a buffer is for: data that kernels read and write, or a small block of parameters. */
export type BufferUse = "data" | "parameters";

/** Memory that the host reads: what commands have put there. */
export interface StagingBuffer {
  readonly size: number;
  /** A copy of the first bytes, all unless given, once every command submitted so far has run. */
  read(byteLength?: number): Promise<ArrayBuffer>;
  destroy(): void;
}

/** A kernel with its operands; what is in it is the back end's own. */
export interface Launch {
  readonly label: string;
}

/** Work in order: nothing runs before `submit`, and then everything does, each part after the one before it. */
export interface Commands {
  /**
   * Runs launches on a batch of this shape, all of them `times` times. Batches of a kind pass the same list again: a back
   * end may keep what it makes of one, such as a graph per list and shape.
   */
  launch(launches: readonly Launch[], shape: BatchShape, times?: number): void;
  copy(from: DeviceBuffer, fromByte: number, to: StagingBuffer, toByte: number, byteLength: number): void;
  submit(): void;
}

/** What a back end makes of a batch before it runs. */
export interface LaunchPlan {
  /** Batches of one key run the same launches. */
  readonly key: string;
  readonly splits: SplitPlan;
  /** The fusions asked for, less those that this batch's kernels cannot carry out. */
  readonly fusions: Fusions;
  takesNorm(step: ProjectStep): boolean;
}

/** The kernels of one path. */
export interface StepKernels {
  /** @param longest most keys that a sequence will have while the batch runs. */
  plan(batch: Batch, longest: number, fusions: Fusions): LaunchPlan;
  /**
   * The launches of a step, for every batch of the plan's key. A step that leaves a value elsewhere than at its place
   * moves the place.
   * @param captured whether values that a fused step would keep to itself are wanted too.
   */
  compile(step: KernelStep, plan: LaunchPlan, places: Places, captured: boolean): Promise<readonly Launch[]>;
  /** The launches that turn logits into tokens; `advance` also makes them the next step's input. */
  choose(options: { readonly nucleus: boolean; readonly advance: boolean }): Promise<readonly Launch[]>;
  destroy(): void;
}

/** FlashInfer's operations on operands that have been checked; results are there once a later read returns. */
export interface AttentionKernels {
  attend(call: AttentionCall): Promise<void>;
  append(call: AppendCall): Promise<void>;
  merge(call: MergeCall): Promise<void>;
}

/** All that the engine asks of a device. It knows no API: WebGPU is one implementation. */
export interface Backend extends AttentionKernels {
  readonly name: string;
  /** Whether `time` measures. */
  readonly canTime: boolean;
  /** A buffer filled with zeros. */
  buffer(label: string, byteLength: number, use?: BufferUse): DeviceBuffer;
  /** A buffer holding `data`. */
  upload(label: string, data: ArrayBufferView<ArrayBuffer>, use?: BufferUse): DeviceBuffer;
  /** Writes bytes, after everything submitted before. */
  write(buffer: DeviceBuffer, byteOffset: number, data: ArrayBufferView<ArrayBuffer>): void;
  /** A copy of a buffer's bytes, once everything submitted before has run. */
  read(buffer: DeviceBuffer, byteOffset?: number, byteLength?: number): Promise<ArrayBuffer>;
  staging(byteLength: number): StagingBuffer;
  commands(): Commands;
  /** Nanoseconds that each launch takes on the device. */
  time(launches: readonly Launch[], shape: BatchShape): Promise<number[]>;
  /** A launch that only reads a buffer: what the memory can give. */
  reader(buffer: DeviceBuffer): Promise<Launch>;
  /** @throws InputError when a value of the spec has a size that the kernels cannot work with. */
  requireWidths(graph: Graph): void;
  kernels(memory: PathMemory): StepKernels;
  destroy(): void;
}
