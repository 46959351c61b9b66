import type { BatchShape } from "../webgpu/batch-buffer.js";
import type { Gpu } from "../webgpu/device.js";
import type { Kernel } from "../webgpu/pipelines.js";

export type Grid = readonly [number, number, number];

/** A value of the spec as it lies in a buffer, for captures. */
export interface DenseTap {
  readonly kind: "dense";
  readonly name: string;
  readonly buffer: GPUBuffer;
  /** Axes after the row axis: [channels] or [heads, head_dim]. */
  readonly shape: readonly number[];
  readonly rowStride: number;
  readonly offset: number;
  /** Whether the value has a row per token or one per sequence. */
  readonly per: "row" | "sequence";
}

export interface PagedTap {
  readonly kind: "paged";
  readonly name: string;
  readonly buffer: GPUBuffer;
}

export type Tap = DenseTap | PagedTap;

/** One kernel launch of a path, with the values it reads and writes. */
export interface Dispatch {
  readonly label: string;
  readonly kernel: Kernel;
  readonly group: GPUBindGroup;
  readonly grid: (shape: BatchShape) => Grid;
  readonly reads: readonly Tap[];
  readonly writes: readonly Tap[];
}

/** Encodes dispatches into one pass; WebGPU orders them by the buffers they share. */
export function encodeDispatches(encoder: GPUCommandEncoder, program: readonly Dispatch[], shape: BatchShape): void {
  const pass = encoder.beginComputePass();
  let pipeline: GPUComputePipeline | undefined;
  for (const { kernel, group, grid } of program) {
    if (kernel.pipeline !== pipeline) {
      pipeline = kernel.pipeline;
      pass.setPipeline(pipeline);
    }
    pass.setBindGroup(0, group);
    const [x, y, z] = grid(shape);
    pass.dispatchWorkgroups(x, y, z);
  }
  pass.end();
}

/** GPU time of each dispatch in nanoseconds, by timestamps around a pass each. */
export async function timeDispatches(gpu: Gpu, program: readonly Dispatch[], shape: BatchShape): Promise<number[]> {
  const { device } = gpu;
  const count = program.length * 2;
  const querySet = device.createQuerySet({ type: "timestamp", count });
  const resolved = device.createBuffer({ size: count * 8, usage: 0x200 | 0x4 });
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
