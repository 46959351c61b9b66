import type { DriverLibrary, PinnedBytes } from "./driver-library.js";
import type { BoundKernel, Grid } from "./launch.js";

/** CU_STREAM_NON_BLOCKING, CU_EVENT_DISABLE_TIMING and CU_STREAM_CAPTURE_MODE_THREAD_LOCAL. */
const nonBlocking = 1;
const withoutTime = 2;
const threadLocal = 1;
/** CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION */
const programmaticSerialization = 6;

/** Where the parts of a launch lie in the stream's fixed memory: CUlaunchConfig, its attribute, and the kernel's argument. */
const attributeAt = 56;
const pointersAt = 128;
const argumentAt = 144;
/** Bytes that a kernel's argument may have; the driver allows 4,096. */
const argumentBytes = 512;

/** Work of the device in order. */
export class Stream {
  readonly handle: number;
  readonly #launch: PinnedBytes;
  readonly #view: DataView;

  /** @param overlaps whether a kernel may start before the one before it has ended: kernels wait themselves. */
  constructor(
    readonly driver: DriverLibrary,
    readonly overlaps: boolean,
  ) {
    this.handle = driver.handle("cuStreamCreate", nonBlocking);
    this.#launch = driver.pin(argumentAt + argumentBytes);
    this.#view = new DataView(this.#launch.bytes.buffer);
  }

  /** An event without a time unless asked for. */
  event(timed = false): number {
    return this.driver.handle("cuEventCreate", timed ? 0 : withoutTime);
  }

  record(event: number): void {
    this.driver.call("cuEventRecord", event, this.handle);
  }

  /** Waits until an event has come, while the host's other work goes on. */
  async reached(event: number): Promise<void> {
    while (!this.driver.isDone(event)) await new Promise((resolve) => setImmediate(resolve));
  }

  /**
   * The driver reads configuration and argument before it returns: one place serves all launches.
   * @param overlapping whether it may start before the launch before it has ended, where the device can do that.
   */
  launch({ handle, threads, sharedBytes, argument }: BoundKernel, grid: Grid, overlapping: boolean): void {
    const view = this.#view;
    const { address, bytes } = this.#launch;
    for (const [i, value] of [...grid, threads, 1, 1, sharedBytes].entries()) view.setUint32(i * 4, value, true);
    view.setBigUint64(32, BigInt(this.handle), true);
    view.setBigUint64(40, BigInt(address + attributeAt), true);
    view.setUint32(48, this.overlaps && overlapping ? 1 : 0, true);
    view.setUint32(attributeAt, programmaticSerialization, true);
    view.setUint32(attributeAt + 8, 1, true);
    view.setBigUint64(pointersAt, BigInt(address + argumentAt), true);
    bytes.set(argument, argumentAt);
    this.driver.call("cuLaunchKernelEx", address, handle, address + pointersAt, 0);
  }

  /** A graph of what `work` puts into this stream, ready to be launched; nothing of it runs yet. */
  capture(work: () => void): number {
    const { driver } = this;
    driver.call("cuStreamBeginCapture_v2", this.handle, threadLocal);
    try {
      work();
    } catch (error) {
      this.#abandonCapture();
      throw error;
    }
    const graph = driver.handle("cuStreamEndCapture", this.handle);
    try {
      return driver.handle("cuGraphInstantiateWithFlags", graph, 0);
    } finally {
      driver.call("cuGraphDestroy", graph);
    }
  }

  /** A call that failed has ended the capture, and left no graph; the stream leaves it all the same. */
  #abandonCapture(): void {
    let graph: number;
    try {
      graph = this.driver.handle("cuStreamEndCapture", this.handle);
    } catch {
      return;
    }
    this.driver.call("cuGraphDestroy", graph);
  }

  synchronize(): void {
    this.driver.call("cuStreamSynchronize", this.handle);
  }

  destroy(): void {
    this.driver.call("cuStreamDestroy_v2", this.handle);
  }
}
