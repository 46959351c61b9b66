import type { DeviceBuffer, StagingBuffer } from "../device/backend.js";
import type { Stream } from "./stream.js";

/** Device memory, filled with zeros when it is made. */
export class CudaBuffer implements DeviceBuffer {
  readonly address: number;

  /** @throws Error naming the buffer and its size when the device has no room for it. */
  constructor(
    readonly stream: Stream,
    readonly label: string,
    readonly size: number,
  ) {
    try {
      this.address = stream.driver.handle("cuMemAlloc_v2", size);
    } catch (error) {
      throw new Error(`${label}: ${size} bytes: ${(error as Error).message}`);
    }
    stream.driver.call("cuMemsetD8Async", this.address, 0, size, stream.handle);
  }

  /** Returns when the device has done everything that may still use it. */
  destroy(): void {
    this.stream.driver.call("cuMemFree_v2", this.address);
  }
}

/** Page-locked memory of the host, which copies reach while the host goes on. */
export class CudaStaging implements StagingBuffer {
  readonly address: number;
  readonly #view: Uint8Array<ArrayBuffer>;
  readonly #event: number;

  constructor(
    readonly stream: Stream,
    readonly size: number,
  ) {
    const { driver } = stream;
    this.address = driver.handle("cuMemAllocHost_v2", size);
    this.#view = new Uint8Array(driver.koffi.view(BigInt(this.address), size));
    this.#event = stream.event();
  }

  async read(byteLength = this.size): Promise<ArrayBuffer> {
    this.stream.record(this.#event);
    await this.stream.reached(this.#event);
    return this.#view.slice(0, byteLength).buffer;
  }

  destroy(): void {
    const { driver } = this.stream;
    driver.call("cuEventDestroy_v2", this.#event);
    driver.call("cuMemFreeHost", this.address);
  }
}
