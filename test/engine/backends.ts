import { openCuda } from "../../src/engine/cuda/device.js";
import type { Backend, DeviceBuffer } from "../../src/engine/device/backend.js";
import { compiler, FakeDriver } from "./cuda/emulated.js";
import { openTestDevice } from "./gpu.js";

/** A back end as tests use it. */
export interface TestBackend extends Backend {
  readFloats(buffer: DeviceBuffer, offset?: number, length?: number): Promise<Float32Array>;
}

export type TestedBackend = readonly [name: string, open: () => Promise<TestBackend>];

const webgpu: TestedBackend = ["WebGPU", openTestDevice];
/** CUDA's kernels run on the CPU, from their own sources; FAULTLINE_CUDA=device runs them on the machine's GPU. */
const onDevice = process.env.FAULTLINE_CUDA === "device";
const cuda: TestedBackend = onDevice
  ? ["CUDA", () => openCuda()]
  : ["CUDA on the CPU", () => openCuda(new FakeDriver().path)];

/** Every back end that this machine can run: all of them keep one contract. */
export const backends: readonly TestedBackend[] = compiler || onDevice ? [webgpu, cuda] : [webgpu];
/** CUDA's alone. */
export const cudaBackends: readonly TestedBackend[] = backends.filter((backend) => backend === cuda);

if (cudaBackends.length === 0) console.warn("no C++ compiler was found: the CUDA kernels do not run in these tests");
