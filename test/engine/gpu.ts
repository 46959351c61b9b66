import { batchHeader } from "../../src/engine/device/batch-buffer.js";
import { type DeviceOptions, openDevice } from "../../src/engine/webgpu/device.js";
import type { Gpu } from "../../src/engine/webgpu/gpu.js";

/** The GPU tests run on: the software one unless FAULTLINE_ADAPTER names another. */
export function openTestDevice(options: DeviceOptions = {}): Promise<Gpu> {
  return openDevice({ adapter: process.env.FAULTLINE_ADAPTER ?? "software", ...options });
}

/** mulberry32: the same numbers on every machine. */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Normal variates of the given spread, as float32. */
export function normals(random: () => number, count: number, spread = 1): Float32Array<ArrayBuffer> {
  return Float32Array.from(
    { length: count },
    () => spread * Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random()),
  );
}

/** A whole number between low and high, both included. */
export function between(random: () => number, low: number, high: number): number {
  return low + Math.floor(random() * (high - low + 1));
}

/** Runs one kernel once. */
export async function dispatch(
  gpu: Gpu,
  kernel: import("../../src/engine/webgpu/pipelines.js").Kernel,
  operands: Record<string, GPUBuffer>,
  grid: [number, number?, number?],
): Promise<void> {
  const group = kernel.bind(operands);
  gpu.device.pushErrorScope("validation");
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(kernel.pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(...grid);
  pass.end();
  gpu.device.queue.submit([encoder.finish()]);
  const error = await gpu.wait(gpu.device.popErrorScope());
  if (error) throw new Error(error.message);
}

export function uniform(gpu: Gpu, bytes: Uint8Array<ArrayBuffer>): GPUBuffer {
  return gpu.upload("uniform", bytes, "parameters");
}

type Header = Parameters<typeof batchHeader.pack>[0];

/** A batch header with zeros where `values` says nothing. */
export function header(gpu: Gpu, values: Partial<Header>): GPUBuffer {
  const zeros = Object.fromEntries(Object.keys(batchHeader.fields).map((name) => [name, 0])) as Header;
  return uniform(gpu, batchHeader.pack({ ...zeros, ...values }));
}
