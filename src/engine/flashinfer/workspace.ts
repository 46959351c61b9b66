import { CudaBuffer } from "../cuda/memory.js";
import type { Stream } from "../cuda/stream.js";
import type { DeviceTensor, HostTensor, ObjectValue, Value } from "./values.js";

/** Bytes that FlashInfer's documentation asks for: states of split attention, and what a plan says to the kernels. */
const floatBytes = 128 << 20;
const intBytes = 8 << 20;
/** Plans that may be on their way to the device at a time. */
const copiesUnderWay = 2;

/** Memory for the states of split attention, which runs share that follow one another; zeros at first. */
export class FloatWorkspace {
  readonly #buffer: CudaBuffer;

  constructor(stream: Stream) {
    this.#buffer = new CudaBuffer(stream, "flashinfer workspace", floatBytes);
  }

  get tensor(): DeviceTensor {
    return bytesOf(this.#buffer);
  }

  destroy(): void {
    this.#buffer.destroy();
  }
}

/**
 * The memory of one plan at a time: what kernels read of it on the device, and page-locked copies that a plan is written to
 * first. A plan is copied to the device after the call has returned, so that the next one takes another copy, or waits.
 */
export class PlanWorkspace {
  readonly #device: CudaBuffer;
  readonly #pinned: { readonly address: number; readonly event: number; used: boolean }[] = [];
  #next = 0;

  constructor(readonly stream: Stream) {
    const { driver } = stream;
    this.#device = new CudaBuffer(stream, "flashinfer plan", intBytes);
    for (let i = 0; i < copiesUnderWay; i++) {
      this.#pinned.push({ address: driver.handle("cuMemAllocHost_v2", intBytes), event: stream.event(), used: false });
    }
  }

  get tensor(): DeviceTensor {
    return bytesOf(this.#device);
  }

  /** Calls `plan` with page-locked memory that no earlier plan is still copied from. */
  plan(plan: (pinned: Value) => ObjectValue): ObjectValue {
    const copy = this.#pinned[this.#next]!;
    this.#next = (this.#next + 1) % copiesUnderWay;
    const { driver } = this.stream;
    while (copy.used && !driver.isDone(copy.event));
    const pinned: HostTensor = { kind: "host", address: copy.address, dtype: "uint8", length: intBytes };
    const made = plan(pinned);
    this.stream.record(copy.event);
    copy.used = true;
    return made;
  }

  destroy(): void {
    const { driver } = this.stream;
    for (const { address, event } of this.#pinned) {
      driver.call("cuEventDestroy_v2", event);
      driver.call("cuMemFreeHost", address);
    }
    this.#device.destroy();
  }
}

function bytesOf({ address, size }: CudaBuffer): DeviceTensor {
  return { kind: "device", address, dtype: "uint8", shape: [size], strides: [1] };
}
