import type { Graph } from "../../spec/graph.js";
import type { AppendCall, AttentionCall, MergeCall } from "../device/attention-call.js";
import type { Backend } from "../device/backend.js";
import type { BatchShape } from "../device/batch-buffer.js";
import type { PathMemory } from "../device/path-memory.js";
import { requireWidths } from "../device/widths.js";
import { append, attend, merge } from "./attention.js";
import type { AttentionLibrary } from "./attention-library.js";
import { CudaCommands } from "./commands.js";
import { runEach } from "./graphs.js";
import type { CudaLaunch } from "./launch.js";
import { CudaBuffer, CudaStaging } from "./memory.js";
import { Modules } from "./modules.js";
import { CudaStepKernels } from "./step-kernels.js";
import type { Stream } from "./stream.js";

/** A GPU through CUDA's driver, as the engine's back end. */
export class Cuda implements Backend {
  readonly canTime = true;
  readonly modules: Modules;
  #sink: CudaBuffer | undefined;

  constructor(
    readonly name: string,
    readonly stream: Stream,
    multiprocessors: number,
    /** Gives the device's context back. */
    readonly release: () => void,
    /** Whose attention the paths run; the kernels here unless there is one. */
    readonly library?: AttentionLibrary,
  ) {
    this.modules = new Modules(stream.driver, stream.overlaps, multiprocessors);
  }

  /** A zero-filled buffer; sizes are rounded up to 16 bytes. */
  buffer(label: string, byteLength: number): CudaBuffer {
    return new CudaBuffer(this.stream, label, Math.max(16, Math.ceil(byteLength / 16) * 16));
  }

  upload(label: string, data: ArrayBufferView<ArrayBuffer>): CudaBuffer {
    const buffer = this.buffer(label, data.byteLength);
    this.write(buffer, 0, data);
    return buffer;
  }

  /** The driver has copied the bytes when it returns; the device has them before whatever is submitted next. */
  write(buffer: CudaBuffer, byteOffset: number, data: ArrayBufferView<ArrayBuffer>): void {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    const { driver, handle } = this.stream;
    if (bytes.byteLength === 0) return;
    driver.call("cuMemcpyHtoDAsync_v2", buffer.address + byteOffset, bytes, bytes.byteLength, handle);
  }

  async read(buffer: CudaBuffer, byteOffset = 0, byteLength = buffer.size - byteOffset): Promise<ArrayBuffer> {
    if (byteLength === 0) return new ArrayBuffer(0);
    const staging = this.staging(byteLength);
    try {
      const commands = this.commands();
      commands.copy(buffer, byteOffset, staging, 0, byteLength);
      commands.submit();
      return await staging.read(byteLength);
    } finally {
      staging.destroy();
    }
  }

  async readFloats(buffer: CudaBuffer, offset = 0, length = buffer.size / 4 - offset): Promise<Float32Array> {
    return new Float32Array(await this.read(buffer, offset * 4, length * 4));
  }

  staging(byteLength: number): CudaStaging {
    return new CudaStaging(this.stream, Math.max(16, byteLength));
  }

  commands(): CudaCommands {
    return new CudaCommands(this.stream);
  }

  /** Launches by themselves. */
  run(launches: readonly CudaLaunch[], shape: BatchShape): void {
    runEach(this.stream, launches, shape);
  }

  /** Every launch by itself, between two events. */
  async time(launches: readonly CudaLaunch[], shape: BatchShape): Promise<number[]> {
    const { stream } = this;
    const events = [stream.event(true)];
    stream.record(events[0]!);
    for (const launch of launches) {
      runEach(stream, [launch], shape);
      events.push(stream.event(true));
      stream.record(events.at(-1)!);
    }
    await stream.reached(events.at(-1)!);
    const times = launches.map((_, i) => stream.driver.elapsed(events[i]!, events[i + 1]!) * 1e6);
    for (const event of events) stream.driver.call("cuEventDestroy_v2", event);
    return times;
  }

  async reader(buffer: CudaBuffer): Promise<CudaLaunch> {
    this.#sink ??= this.buffer("sink", 16);
    const values = { input: buffer, output: this.#sink, chunks: buffer.size / 16 };
    return { label: "read", kernel: this.modules.bind("read-bandwidth", values), grid: () => [2048, 1, 1] };
  }

  requireWidths(graph: Graph): void {
    requireWidths(graph);
  }

  kernels(memory: PathMemory): CudaStepKernels {
    return new CudaStepKernels(this, memory);
  }

  async attend(call: AttentionCall): Promise<void> {
    if (this.library) this.library.attend(this, call);
    else attend(this, call);
  }

  async append(call: AppendCall): Promise<void> {
    append(this, call);
  }

  async merge(call: MergeCall): Promise<void> {
    merge(this, call);
  }

  destroy(): void {
    this.stream.synchronize();
    this.library?.destroy();
    this.#sink?.destroy();
    this.modules.destroy();
    this.stream.destroy();
    this.release();
  }
}
