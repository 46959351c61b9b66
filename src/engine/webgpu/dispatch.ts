import type { Launch } from "../device/backend.js";
import type { BatchShape } from "../device/batch-buffer.js";
import type { Gpu } from "./gpu.js";
import type { Kernel } from "./pipelines.js";
import { BufferUsage } from "./usage.js";

export type Grid = readonly [number, number, number];

/** A kernel bound to its operands; the grid follows from the batch. */
export interface Dispatch extends Launch {
  readonly kernel: Kernel;
  readonly group: GPUBindGroup;
  readonly grid: (shape: BatchShape) => Grid;
}

/** Encodes dispatches, `times` times, into one pass; WebGPU orders them by the buffers they share. */
export function encodeDispatches(
  encoder: GPUCommandEncoder,
  program: readonly Dispatch[],
  shape: BatchShape,
  times: number,
): void {
  const pass = encoder.beginComputePass();
  let pipeline: GPUComputePipeline | undefined;
  for (let time = 0; time < times; time++) {
    for (const { kernel, group, grid } of program) {
      if (kernel.pipeline !== pipeline) {
        pipeline = kernel.pipeline;
        pass.setPipeline(pipeline);
      }
      pass.setBindGroup(0, group);
      const [x, y, z] = grid(shape);
      pass.dispatchWorkgroups(x, y, z);
    }
  }
  pass.end();
}

/** GPU time of each dispatch in nanoseconds, by timestamps around a pass each. */
export async function timeDispatches(gpu: Gpu, program: readonly Dispatch[], shape: BatchShape): Promise<number[]> {
  const { device } = gpu;
  const count = program.length * 2;
  const querySet = device.createQuerySet({ type: "timestamp", count });
  const resolved = device.createBuffer({ size: count * 8, usage: BufferUsage.queryResolve | BufferUsage.copySource });
  const encoder = device.createCommandEncoder();
  program.forEach(({ kernel, group, grid }, i) => {
    const pass = encoder.beginComputePass({
      timestampWrites: { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 },
    });
    pass.setPipeline(kernel.pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...grid(shape));
    pass.end();
  });
  encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
  device.queue.submit([encoder.finish()]);
  const times = new BigUint64Array(await gpu.read(resolved));
  querySet.destroy();
  resolved.destroy();
  return program.map((_, i) => Number(times[2 * i + 1]! - times[2 * i]!));
}
