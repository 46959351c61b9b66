import type { Backend } from "../device/backend.js";

/** The adapter that stands for a GPU through CUDA's driver. */
export const cudaAdapter = "cuda";

/** Whose attention the CUDA back end runs: its own kernels, or the user's FlashInfer. */
export const attentionNames = ["own", "flashinfer"] as const;
export type AttentionName = (typeof attentionNames)[number];

/**
 * Opens a GPU: through CUDA for the adapter "cuda", else through WebGPU. Each back end's code is loaded only when it is asked for.
 * @param adapter substring of a GPU's name, "software" or "cuda"; the best one of WebGPU when left out.
 * @throws Error in one sentence when there is no such GPU, or its packages are missing.
 */
export async function openBackend(adapter?: string, attention: AttentionName = "own"): Promise<Backend> {
  if (adapter === cudaAdapter) {
    const { openCuda } = await import("../cuda/device.js");
    if (attention === "own") return openCuda();
    const { openFlashInfer } = await import("../flashinfer/open.js");
    return openCuda(undefined, openFlashInfer);
  }
  if (attention !== "own") throw new Error(`--attention ${attention} runs with --adapter ${cudaAdapter} alone`);
  const { openDevice } = await import("../webgpu/device.js");
  return openDevice({ adapter });
}
