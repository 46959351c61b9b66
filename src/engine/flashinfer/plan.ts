import type { TvmLibrary } from "./tvm-library.js";
import type { ObjectValue } from "./values.js";

/** What `plan` made of a batch, for `run`; it belongs to whoever asked for it. */
export class Plan {
  #held = true;

  constructor(
    readonly library: TvmLibrary,
    readonly value: ObjectValue,
  ) {}

  /** Gives it back to the library. */
  release(): void {
    if (this.#held) this.library.release(this.value);
    this.#held = false;
  }
}
