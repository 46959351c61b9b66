import type { Commands, DeviceBuffer, StagingBuffer } from "../device/backend.js";
import type { BatchShape } from "../device/batch-buffer.js";
import { type Dispatch, encodeDispatches } from "./dispatch.js";
import type { Gpu } from "./gpu.js";
import { BufferUsage, mapForReading } from "./usage.js";

/** One command buffer. */
export class GpuCommands implements Commands {
  readonly #encoder: GPUCommandEncoder;

  constructor(readonly device: GPUDevice) {
    this.#encoder = device.createCommandEncoder();
  }

  launch(launches: readonly Dispatch[], shape: BatchShape, times = 1): void {
    encodeDispatches(this.#encoder, launches, shape, times);
  }

  copy(from: DeviceBuffer, fromByte: number, to: GpuStaging, toByte: number, byteLength: number): void {
    this.#encoder.copyBufferToBuffer(from as GPUBuffer, fromByte, to.buffer, toByte, byteLength);
  }

  submit(): void {
    this.device.queue.submit([this.#encoder.finish()]);
  }
}

/** A buffer that can be mapped. */
export class GpuStaging implements StagingBuffer {
  readonly buffer: GPUBuffer;

  constructor(
    readonly gpu: Gpu,
    byteLength: number,
  ) {
    const usage = BufferUsage.mapRead | BufferUsage.copyDestination;
    this.buffer = gpu.device.createBuffer({ size: Math.max(byteLength, 4), usage });
  }

  get size(): number {
    return this.buffer.size;
  }

  async read(byteLength = this.size): Promise<ArrayBuffer> {
    const mapped = Math.ceil(byteLength / 4) * 4;
    await this.gpu.wait(this.buffer.mapAsync(mapForReading, 0, mapped));
    const bytes = this.buffer.getMappedRange(0, mapped).slice(0, byteLength);
    this.buffer.unmap();
    return bytes;
  }

  destroy(): void {
    this.buffer.destroy();
  }
}
