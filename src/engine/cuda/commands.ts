import type { Commands } from "../device/backend.js";
import type { BatchShape } from "../device/batch-buffer.js";
import { runEach } from "./graphs.js";
import type { CudaLaunch } from "./launch.js";
import type { CudaBuffer, CudaStaging } from "./memory.js";
import type { Stream } from "./stream.js";

/** Work that goes into the stream when it is submitted. */
export class CudaCommands implements Commands {
  readonly #work: (() => void)[] = [];

  constructor(readonly stream: Stream) {}

  launch(launches: readonly CudaLaunch[], shape: BatchShape, times = 1): void {
    this.#work.push(() => {
      const graphs = launches[0]?.graphs;
      if (graphs) graphs.run(launches, shape, times);
      else for (let time = 0; time < times; time++) runEach(this.stream, launches, shape);
    });
  }

  copy(from: CudaBuffer, fromByte: number, to: CudaStaging, toByte: number, byteLength: number): void {
    const { driver, handle } = this.stream;
    this.#work.push(() =>
      driver.call("cuMemcpyDtoHAsync_v2", to.address + toByte, from.address + fromByte, byteLength, handle),
    );
  }

  submit(): void {
    for (const work of this.#work) work();
  }
}
