import type { Stream } from "../cuda/stream.js";
import { FlashInfer } from "./flashinfer.js";

/** The user's FlashInfer on a device's stream. @throws Error in one sentence when its runtime cannot be loaded. */
export async function openFlashInfer(stream: Stream): Promise<FlashInfer> {
  return new FlashInfer(stream);
}
