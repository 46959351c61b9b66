import type { Cuda } from "../../../src/engine/cuda/cuda.js";
import type { KernelName } from "../../../src/engine/cuda/kernel-table.js";
import type { Grid } from "../../../src/engine/cuda/launch.js";
import type { CudaBuffer } from "../../../src/engine/cuda/memory.js";
import type { KernelValues } from "../../../src/engine/cuda/modules.js";
import { batchHeader } from "../../../src/engine/device/batch-buffer.js";

type Header = Parameters<typeof batchHeader.pack>[0];

/** A batch header with zeros where `values` says nothing. */
export function header(cuda: Cuda, values: Partial<Header>): CudaBuffer {
  const zeros = Object.fromEntries(Object.keys(batchHeader.fields).map((name) => [name, 0])) as Header;
  return cuda.upload("header", batchHeader.pack({ ...zeros, ...values }));
}

/** Runs one kernel once. */
export function launch<Name extends KernelName>(
  cuda: Cuda,
  name: Name,
  values: KernelValues<Name>,
  [x, y = 1, z = 1]: readonly [number, number?, number?],
  variant?: string,
): void {
  const grid: Grid = [x, y, z];
  const kernel = cuda.modules.bind(name, values, variant);
  cuda.run([{ label: name, kernel, grid: () => grid }], { rows: 1, sequences: 1, splitCount: 1, tileCount: 1 });
}
