import { describe } from "vitest";
import type { Cuda } from "../../src/engine/cuda/cuda.js";
import { openCuda } from "../../src/engine/cuda/device.js";
import type { Backend, DeviceBuffer } from "../../src/engine/device/backend.js";
import { openFlashInfer } from "../../src/engine/flashinfer/open.js";
import type { DType } from "../../src/tensor/dtype.js";
import { compiler, FakeDriver } from "./cuda/emulated.js";
import { standInFolder } from "./flashinfer/stand-in.js";
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

/**
 * CUDA with FlashInfer's attention: with a stand-in that checks what it is called with, or with the library itself on a
 * device and the modules that FAULTLINE_FLASHINFER names.
 */
export const openTestFlashInfer: (() => Promise<Cuda>) | undefined = onDevice
  ? process.env.FAULTLINE_FLASHINFER
    ? () => openCuda(undefined, openFlashInfer)
    : undefined
  : compiler
    ? () => {
        process.env.FAULTLINE_FLASHINFER = standInFolder();
        return openCuda(new FakeDriver().path, openFlashInfer);
      }
    : undefined;

/** What a back end's attention takes, where it is not everything. */
export interface AttentionTraits {
  /** Queries, keys, values and outputs. */
  readonly dtype: DType;
  readonly headDims: readonly number[];
  /** Query heads per KV head in decode. */
  readonly decodeGroups: readonly number[];
}

/** Every back end that this machine can run: all of them keep one contract. */
export const backends: readonly (readonly [
  name: string,
  open: () => Promise<TestBackend>,
  traits: AttentionTraits | undefined,
])[] = [
  ["WebGPU", openTestDevice, undefined],
  ...(openTestCuda ? [[onDevice ? "CUDA" : "CUDA on the CPU", openTestCuda, undefined] as const] : []),
  ...(openTestFlashInfer
    ? [
        [
          onDevice ? "CUDA with FlashInfer" : "CUDA on the CPU with a stand-in for FlashInfer",
          openTestFlashInfer,
          { dtype: "bfloat16", headDims: [64, 128], decodeGroups: [1, 2, 3, 4, 6, 8] },
        ] as const,
      ]
    : []),
];

/** Those whose attention takes every type of cache. */
export const ofEveryCache = backends.filter(([, , traits]) => traits === undefined);

/** `describe` where CUDA's kernels can run; where they cannot, a line above has said so. */
export const describeCuda = (name: string, tests: (open: () => Promise<Cuda>) => void): void => {
  if (openTestCuda) describe(name, () => tests(openTestCuda));
};
