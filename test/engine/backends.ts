import { describe } from "vitest";
import type { Cuda } from "../../src/engine/cuda/cuda.js";
import { openCuda } from "../../src/engine/cuda/device.js";
import type { Backend, DeviceBuffer } from "../../src/engine/device/backend.js";
import { compiler, FakeDriver } from "./cuda/emulated.js";
import { openTestDevice } from "./gpu.js";

/** A back end as tests use it. */
export interface TestBackend extends Backend {
  readFloats(buffer: DeviceBuffer, offset?: number, length?: number): Promise<Float32Array>;
}

/** CUDA's kernels run on the CPU, from their own sources; FAULTLINE_CUDA=device runs them on the machine's GPU. */
const onDevice = process.env.FAULTLINE_CUDA === "device";
/** Undefined where there is no C++ compiler for that. */
export const openTestCuda: (() => Promise<Cuda>) | undefined =
  onDevice || compiler ? () => openCuda(onDevice ? undefined : new FakeDriver().path) : undefined;
if (!openTestCuda) console.warn("no C++ compiler was found: CUDA's kernels do not run in these tests");

/** Every back end that this machine can run: all of them keep one contract. */
export const backends: readonly (readonly [name: string, open: () => Promise<TestBackend>])[] = [
  ["WebGPU", openTestDevice],
  ...(openTestCuda ? [[onDevice ? "CUDA" : "CUDA on the CPU", openTestCuda] as const] : []),
];

/** `describe` where CUDA's kernels can run; where they cannot, a line above has said so. */
export const describeCuda = (name: string, tests: (open: () => Promise<Cuda>) => void): void => {
  if (openTestCuda) describe(name, () => tests(openTestCuda));
};
