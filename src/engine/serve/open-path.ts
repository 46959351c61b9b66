import type { Arithmetic } from "../../spec/arithmetic.js";
import type { ParameterBytes } from "../../spec/families/unpacked-parameters.js";
import type { ModelConfig } from "../../spec/models/config.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import type { DType } from "../../tensor/dtype.js";
import { InputError } from "../../tensor/errors.js";
import { type Patch, patchModel } from "../program/patch.js";
import { ReferencePath } from "../reference/reference-path.js";
import type { Path } from "../run/path.js";
import { type AttentionName, attentionNames } from "./open-backend.js";

export { type AttentionName, attentionNames };

export const pathNames = ["reference", "standard", "fused"] as const;
export type PathName = (typeof pathNames)[number];

export interface OpenPathOptions {
  readonly config: ModelConfig;
  readonly checkpoint: ParameterReader & ParameterBytes;
  readonly pageCount: number;
  readonly pageSize: number;
  /** Type that the reference path stores values in. @default "float32" */
  readonly dtype?: DType | undefined;
  /** How the reference path sums; exactly, unless given. */
  readonly arithmetic?: Arithmetic | undefined;
  /** Type of the GPU paths' KV cache. @default "float32", and "bfloat16" with FlashInfer's attention */
  readonly cacheDtype?: DType | undefined;
  /** Substring of a GPU's name, "software", or "cuda" for CUDA's driver. */
  readonly adapter?: string | undefined;
  /** Whose attention runs on CUDA. @default "own" */
  readonly attention?: AttentionName | undefined;
}

export interface OpenedPath {
  readonly path: Path;
  /** "cpu", or the GPU's name. */
  readonly device: string;
  close(): void;
}

/** Makes paths of one kind on one device, over weights that are loaded once. */
export interface OpenedEngine {
  /** "cpu", or the GPU's name. */
  readonly device: string;
  /**
   * A path with patches in it, to be disposed of before the engine is closed.
   * @throws InputError when a patch cannot be put into the model.
   */
  path(patches?: readonly Patch[]): Path;
  close(): void;
}

/**
 * Makes a path by name. The GPU code is loaded only for the paths that need it, so that the rest runs without its packages.
 * @throws InputError when there is no such GPU, its packages are missing, or the model does not fit.
 */
export async function openPath(name: PathName, options: OpenPathOptions): Promise<OpenedPath> {
  const engine = await openEngine(name, options);
  const path = engine.path();
  return {
    path,
    device: engine.device,
    close() {
      path.dispose();
      engine.close();
    },
  };
}

/** The same for many paths, one after the other or side by side. */
export async function openEngine(name: PathName, options: OpenPathOptions): Promise<OpenedEngine> {
  if (name === "reference" && options.attention === "flashinfer") {
    throw new InputError("--attention flashinfer runs on the paths standard and fused");
  }
  if (name === "reference") return { device: "cpu", path: (patches) => referencePath(options, patches), close() {} };
  try {
    return await openGpuEngine(name, options);
  } catch (error) {
    throw error instanceof InputError ? error : new InputError(`--path ${name}: ${(error as Error).message}`);
  }
}

function referencePath(options: OpenPathOptions, patches: readonly Patch[] = []): Path {
  const { config, checkpoint, dtype, arithmetic, pageCount, pageSize } = options;
  const { graph, changed } = patchModel(config, checkpoint, patches);
  return new ReferencePath({ config, parameters: checkpoint, graph, changed, dtype, arithmetic, pageCount, pageSize });
}

async function openGpuEngine(name: "standard" | "fused", options: OpenPathOptions): Promise<OpenedEngine> {
  const { config, checkpoint, adapter, attention, pageCount, pageSize } = options;
  const { cacheDtype = attention === "flashinfer" ? "bfloat16" : "float32" } = options;
  const [{ openBackend }, { loadWeights }, { patchedPath }] = await Promise.all([
    import("./open-backend.js"),
    import("../device/weights.js"),
    import("../device/paths.js"),
  ]);
  const gpu = await openBackend(adapter, attention);
  const weights = await loadWeights(gpu, config, checkpoint);
  return {
    device: gpu.name,
    path: (patches = []) =>
      patchedPath(name, gpu, patchModel(config, checkpoint, patches), weights, { pageCount, pageSize, cacheDtype }),
    close() {
      weights.destroy();
      gpu.destroy();
    },
  };
}
