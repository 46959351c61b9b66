import type { Graph } from "../../spec/graph.js";
import type { AppendCall, AttentionCall, MergeCall } from "../device/attention-call.js";
import type { Backend, BufferUse, DeviceBuffer } from "../device/backend.js";
import type { BatchShape } from "../device/batch-buffer.js";
import type { PathMemory } from "../device/path-memory.js";
import { requireWidths } from "../device/widths.js";
import { append, attend, merge } from "./attention.js";
import { GpuCommands, GpuStaging } from "./commands.js";
import { type Dispatch, timeDispatches } from "./dispatch.js";
import { kernel } from "./kernels.js";
import { awaitPatiently } from "./patience.js";
import { Pipelines } from "./pipelines.js";
import { GpuStepKernels } from "./step-kernels.js";
import { BufferUsage } from "./usage.js";

export type DeviceFeature = "subgroups" | "matrix" | "timestamps";

/** A GPU through WebGPU, as the engine's back end. */
export class Gpu implements Backend {
  readonly pipelines: Pipelines;
  readonly name: string;
  /** Whether loops that kernels mark are unrolled before compilation. */
  readonly unrolls: boolean;
  /** Whether to ask the device for news sparingly: in Node, when it is software. */
  readonly #isPatient: boolean;
  #placeholders = new Map<GPUBufferBindingType, GPUBuffer>();

  constructor(
    readonly device: GPUDevice,
    readonly info: GPUAdapterInfo,
    readonly features: ReadonlySet<DeviceFeature>,
    /** Kept reachable while the device lives: Dawn's Node binding runs on it. */
    readonly owner: GPU,
    unroll?: boolean,
  ) {
    this.name = info.device || info.description || info.vendor || "unknown GPU";
    this.pipelines = new Pipelines(this);
    this.unrolls = unroll ?? !this.isSoftware;
    this.#isPatient = this.isSoftware && "setImmediate" in globalThis;
  }

  get isSoftware(): boolean {
    return /swiftshader|llvmpipe|lavapipe/i.test(`${this.name} ${this.info.description} ${this.info.architecture}`);
  }

  get canTime(): boolean {
    return this.features.has("timestamps");
  }

  /** A zero-filled buffer for kernels and copies; sizes are rounded up to 16 bytes. */
  buffer(label: string, byteLength: number, use: BufferUse = "data"): GPUBuffer {
    const usage = use === "parameters" ? BufferUsage.uniform : BufferUsage.storage;
    const size = Math.max(32, Math.ceil(byteLength / 16) * 16);
    if (size > this.device.limits.maxBufferSize) {
      throw new Error(
        `${label}: ${size} bytes, but ${this.name} allows ${this.device.limits.maxBufferSize} per buffer`,
      );
    }
    return this.device.createBuffer({
      label,
      size,
      usage: usage | BufferUsage.copyDestination | BufferUsage.copySource,
    });
  }

  /** A buffer holding `data`. */
  upload(label: string, data: ArrayBufferView<ArrayBuffer>, use?: BufferUse): GPUBuffer {
    const buffer = this.buffer(label, data.byteLength, use);
    this.write(buffer, 0, data);
    return buffer;
  }

  /** Writes bytes; a length that is no multiple of four is padded with zeros. */
  write(buffer: GPUBuffer, byteOffset: number, data: ArrayBufferView<ArrayBuffer>): void {
    let bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (bytes.byteLength % 4 !== 0) {
      const padded = new Uint8Array(Math.ceil(bytes.byteLength / 4) * 4);
      padded.set(bytes);
      bytes = padded;
    }
    this.device.queue.writeBuffer(buffer, byteOffset, bytes);
  }

  /** Waits for the GPU and returns a copy of a buffer's bytes. */
  async read(buffer: DeviceBuffer, byteOffset = 0, byteLength = buffer.size - byteOffset): Promise<ArrayBuffer> {
    const size = Math.ceil(byteLength / 4) * 4;
    const staging = this.staging(size);
    const commands = this.commands();
    if (size > 0) commands.copy(buffer, byteOffset, staging, 0, size);
    commands.submit();
    const bytes = await staging.read(byteLength);
    staging.destroy();
    return bytes;
  }

  async readFloats(buffer: DeviceBuffer, offset = 0, length = buffer.size / 4 - offset): Promise<Float32Array> {
    return new Float32Array(await this.read(buffer, offset * 4, length * 4));
  }

  staging(byteLength: number): GpuStaging {
    return new GpuStaging(this, byteLength);
  }

  /** Awaits what this device does. */
  wait<T>(pending: Promise<T>): Promise<T> {
    return this.#isPatient ? awaitPatiently(pending) : pending;
  }

  commands(): GpuCommands {
    return new GpuCommands(this.device);
  }

  /** Submits dispatches by themselves. */
  run(dispatches: readonly Dispatch[], shape: BatchShape): void {
    const commands = this.commands();
    commands.launch(dispatches, shape);
    commands.submit();
  }

  time(launches: readonly Dispatch[], shape: BatchShape): Promise<number[]> {
    return timeDispatches(this, launches, shape);
  }

  async reader(buffer: GPUBuffer): Promise<Dispatch> {
    const program = await kernel(this, "read-bandwidth", { CHUNKS: buffer.size / 16 });
    const group = program.bind({ input: buffer, output: this.placeholder("storage") });
    return { label: "read", kernel: program, group, grid: () => [2048, 1, 1] };
  }

  requireWidths(graph: Graph): void {
    requireWidths(graph);
  }

  kernels(memory: PathMemory): GpuStepKernels {
    return new GpuStepKernels(this, memory);
  }

  attend(call: AttentionCall): Promise<void> {
    return attend(this, call);
  }

  append(call: AppendCall): Promise<void> {
    return append(this, call);
  }

  merge(call: MergeCall): Promise<void> {
    return merge(this, call);
  }

  /** What stands in for an operand that a kernel's variant does not touch. */
  placeholder(type: GPUBufferBindingType): GPUBuffer {
    let buffer = this.#placeholders.get(type);
    if (!buffer) {
      buffer = this.buffer(`placeholder ${type}`, 256, type === "uniform" ? "parameters" : "data");
      this.#placeholders.set(type, buffer);
    }
    return buffer;
  }

  destroy(): void {
    this.device.destroy();
  }
}
