import type { ModelConfig } from "../../spec/models/config.js";
import type { Checkpoint } from "../../tensor/checkpoint.js";
import type { DType } from "../../tensor/dtype.js";
import { InputError } from "../../tensor/errors.js";
import { ReferencePath } from "../reference/reference-path.js";
import type { Path } from "../run/path.js";

export const pathNames = ["reference", "standard", "fused"] as const;
export type PathName = (typeof pathNames)[number];

export interface OpenPathOptions {
  readonly config: ModelConfig;
  readonly checkpoint: Checkpoint;
  readonly pageCount: number;
  readonly pageSize: number;
  /** Type that the reference path stores values in. @default "float32" */
  readonly dtype?: DType | undefined;
  /** Type of the GPU paths' KV cache. @default "float32" */
  readonly cacheDtype?: DType | undefined;
  /** Substring of a GPU's name, or "software". */
  readonly adapter?: string | undefined;
}

export interface OpenedPath {
  readonly path: Path;
  /** "cpu", or the GPU's name. */
  readonly device: string;
  close(): void;
}

/**
 * Makes a path by name. The GPU code is loaded only for the paths that need it, so that the rest runs without its packages.
 * @throws InputError when there is no such GPU, its packages are missing, or the model does not fit.
 */
export async function openPath(name: PathName, options: OpenPathOptions): Promise<OpenedPath> {
  const { config, checkpoint, dtype, pageCount, pageSize } = options;
  if (name === "reference") {
    const path = new ReferencePath({ config, parameters: checkpoint, dtype, pageCount, pageSize });
    return { path, device: "cpu", close: () => path.dispose() };
  }
  try {
    return await openGpuPath(name, options);
  } catch (error) {
    throw error instanceof InputError ? error : new InputError(`--path ${name}: ${(error as Error).message}`);
  }
}

async function openGpuPath(name: "standard" | "fused", options: OpenPathOptions): Promise<OpenedPath> {
  const { config, checkpoint, adapter, pageCount, pageSize, cacheDtype = "float32" } = options;
  const [{ openDevice }, { loadWeights }, { standardPath, fusedPath }] = await Promise.all([
    import("../webgpu/device.js"),
    import("../device/weights.js"),
    import("../device/paths.js"),
  ]);
  const gpu = await openDevice({ adapter });
  const weights = await loadWeights(gpu, config, checkpoint);
  const make = name === "standard" ? standardPath : fusedPath;
  const path = make(gpu, config, weights, { pageCount, pageSize, cacheDtype });
  return {
    path,
    device: gpu.name,
    close() {
      path.dispose();
      weights.destroy();
      gpu.destroy();
    },
  };
}
