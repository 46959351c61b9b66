import type { Gpu } from "../webgpu/device.js";
import { mergeParameters } from "../webgpu/parameters.js";
import type { Kernel } from "../webgpu/pipelines.js";
import { BufferUsage } from "../webgpu/usage.js";

/** A uniform buffer that says where states to merge lie. */
export function mergeLayout(gpu: Gpu, values: Parameters<typeof mergeParameters.pack>[0]): GPUBuffer {
  return gpu.upload("merge", mergeParameters.pack(values), BufferUsage.uniform);
}

/** Runs kernels one after the other. */
export function submit(
  gpu: Gpu,
  launches: readonly (readonly [Kernel, GPUBindGroup, readonly [number, number, number]])[],
): void {
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  for (const [program, group, grid] of launches) {
    pass.setPipeline(program.pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...grid);
  }
  pass.end();
  gpu.device.queue.submit([encoder.finish()]);
}
