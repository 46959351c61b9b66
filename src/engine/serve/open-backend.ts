import type { Backend } from "../device/backend.js";

/** The adapter that stands for a GPU through CUDA's driver. */
export const cudaAdapter = "cuda";

/**
 * Opens a GPU: through CUDA for the adapter "cuda", else through WebGPU. Each back end's code is loaded only when it is asked for.
 * @param adapter substring of a GPU's name, "software" or "cuda"; the best one of WebGPU when left out.
 * @throws Error in one sentence when there is no such GPU, or its packages are missing.
 */
export async function openBackend(adapter?: string): Promise<Backend> {
  if (adapter === cudaAdapter) {
    const { openCuda } = await import("../cuda/device.js");
    return openCuda();
  }
  const { openDevice } = await import("../webgpu/device.js");
  return openDevice({ adapter });
}
