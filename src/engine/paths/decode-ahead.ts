import type { DecodeOptions } from "../path.js";
import type { BatchShape } from "../webgpu/batch-buffer.js";
import { BufferUsage, mapForReading } from "../webgpu/usage.js";
import { type GpuSampler, historySteps, unpackTokens } from "./gpu-sampler.js";
import { type Dispatch, encodeDispatches } from "./program.js";

/** Encodes steps ahead of their read-back: at most three reads are in flight. */
export async function decodeAhead(
  sampler: GpuSampler,
  program: readonly Dispatch[],
  shape: BatchShape,
  options: DecodeOptions,
): Promise<Int32Array[]> {
  const { device } = sampler.gpu;
  const perRead = Math.min(options.stepsPerRead ?? 8, options.steps, historySteps / 4);
  const rowBytes = sampler.stepBytes;
  const tokens: Int32Array[] = [];
  const pending: { staging: GPUBuffer; mapped: Promise<void>; count: number }[] = [];
  const idle: GPUBuffer[] = [];
  let encoded = 0;
  let stopped = false;
  const collect = async () => {
    const { staging, mapped, count } = pending.shift()!;
    await mapped;
    const words = new Uint32Array(staging.getMappedRange().slice(0));
    staging.unmap();
    idle.push(staging);
    for (let i = 0; i < count; i++) {
      const row = words.subarray((i * rowBytes) / 4);
      const { tokenIds, finite } = unpackTokens(row, shape.sequences);
      if (options.onTokens?.(tokens.length, tokenIds, finite) === false) stopped = true;
      tokens.push(tokenIds);
    }
  };
  while (encoded < options.steps && !stopped) {
    // The first reads are short, so that the GPU starts before the host has encoded a whole one.
    const count = Math.min(perRead, Math.max(1, encoded), options.steps - encoded);
    const staging =
      idle.pop() ??
      device.createBuffer({
        size: perRead * rowBytes,
        usage: BufferUsage.mapRead | BufferUsage.copyDestination,
      });
    const encoder = device.createCommandEncoder();
    encodeDispatches(encoder, Array<readonly Dispatch[]>(count).fill(program).flat(), shape);
    // The history is a ring: a read that passes its end is two copies.
    const first = encoded % historySteps;
    const head = Math.min(count, historySteps - first);
    encoder.copyBufferToBuffer(sampler.history, first * rowBytes, staging, 0, head * rowBytes);
    if (count > head) {
      encoder.copyBufferToBuffer(sampler.history, 0, staging, head * rowBytes, (count - head) * rowBytes);
    }
    device.queue.submit([encoder.finish()]);
    encoded += count;
    pending.push({ staging, mapped: staging.mapAsync(mapForReading), count });
    if (pending.length >= 3) await collect();
  }
  while (pending.length > 0) await collect();
  for (const staging of idle) staging.destroy();
  return tokens;
}
