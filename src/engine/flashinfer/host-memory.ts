import type { Koffi } from "../cuda/driver-library.js";

/** Memory at a fixed address, which structures of C can point to; it lives until it is given back. */
export class HostMemory {
  readonly address: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView;
  readonly #pointer: unknown;

  constructor(
    readonly koffi: Koffi,
    byteLength: number,
  ) {
    this.#pointer = koffi.alloc("uint8_t", byteLength);
    this.address = Number(koffi.address(this.#pointer));
    const memory = koffi.view(this.#pointer, byteLength);
    this.bytes = new Uint8Array(memory);
    this.view = new DataView(memory);
  }

  free(): void {
    this.koffi.free(this.#pointer);
  }
}
