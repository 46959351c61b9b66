import type { TensorEntry } from "./safetensors-header.js";

/** A file that holds tensors whose bytes can be read by ranges. */
export interface TensorFile {
  readonly path: string;
  /** `byteLength` bytes of a tensor, from `byteOffset` within it. */
  readBytes(entry: TensorEntry, byteOffset?: number, byteLength?: number): Uint8Array;
  /** Fills `target` with the bytes of a tensor from `byteOffset` within it. */
  readInto(target: Uint8Array, entry: TensorEntry, byteOffset?: number): void;
}
