const pageBytes = 2 ** 16;

/** A WebAssembly module with the memory that its kernels compute in. */
export class KernelMemory<Kernels> {
  readonly #memory: WebAssembly.Memory;
  readonly kernels: Kernels;

  /**
   * @param module its bytes in base64.
   * @param what says what it is for where it cannot be had.
   * @throws Error where there is no WebAssembly with SIMD.
   */
  constructor(module: string, what: string) {
    const bytes = Buffer.from(module, "base64");
    if (typeof WebAssembly === "undefined" || !WebAssembly.validate(bytes)) {
      throw new Error(`${what} need WebAssembly with SIMD, which Node has from version 16.4 on`);
    }
    this.#memory = new WebAssembly.Memory({ initial: 1 });
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { memory: { memory: this.#memory } });
    this.kernels = instance.exports as unknown as Kernels;
  }

  /** Another buffer once the memory has grown. */
  get buffer(): ArrayBuffer {
    return this.#memory.buffer;
  }

  /** Has it hold so many bytes. */
  reserve(bytes: number): void {
    const missing = bytes - this.#memory.buffer.byteLength;
    if (missing > 0) this.#memory.grow(Math.ceil(missing / pageBytes));
  }

  /** `count` numbers in float64 from number `first` on. */
  floats(first: number, count: number): Float64Array {
    this.reserve((first + count) * 8);
    return new Float64Array(this.#memory.buffer, first * 8, count);
  }
}
