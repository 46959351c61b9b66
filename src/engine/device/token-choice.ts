import { greedy, type Sampling } from "../run/sampling.js";
import type { Backend, DeviceBuffer } from "./backend.js";

/** Steps whose tokens the history can hold before they are read back. */
export const historySteps = 64;

/** What each sequence asks of the sampler, and a ring of the tokens chosen, [steps, sequences] pairs (token, flag). */
export class TokenChoice {
  readonly requests: DeviceBuffer;
  readonly history: DeviceBuffer;

  constructor(
    readonly backend: Backend,
    /** Sequences that a step of the history has room for. */
    readonly width: number,
  ) {
    this.requests = backend.buffer("sampling", width * 16);
    this.history = backend.buffer("history", historySteps * width * 8);
  }

  /** Bytes of one step's tokens in the history. */
  get stepBytes(): number {
    return this.width * 8;
  }

  /**
   * Writes what each sequence asks for.
   * @returns whether any draws from a nucleus.
   * @throws RangeError for a number of entries, a temperature or a top-p that is out of range.
   */
  write(sampling: readonly Sampling[] | undefined, sequences: number): boolean {
    if (sampling && sampling.length !== sequences) {
      throw new RangeError(`sampling: expected ${sequences} entries, one per sequence, found ${sampling.length}`);
    }
    const view = new DataView(new ArrayBuffer(sequences * 16));
    for (let b = 0; b < sequences; b++) {
      const { temperature, topP, seed } = sampling?.[b] ?? greedy;
      if (!(temperature >= 0) || !(topP > 0 && topP <= 1)) {
        throw new RangeError(`sampling: temperature ${temperature} and top-p ${topP} are out of range`);
      }
      view.setFloat32(b * 16, temperature, true);
      view.setFloat32(b * 16 + 4, topP, true);
      view.setUint32(b * 16 + 8, seed >>> 0, true);
    }
    this.backend.write(this.requests, 0, new Uint8Array(view.buffer));
    return sampling?.some(({ temperature, topP }) => temperature > 0 && topP < 1) ?? false;
  }

  destroy(): void {
    this.history.destroy();
    this.requests.destroy();
  }
}

/** One step of the history: the tokens, and whether the logits they were chosen from were finite. */
export function unpackTokens(words: Uint32Array, sequences: number): { tokenIds: Int32Array; finite: boolean[] } {
  return {
    tokenIds: Int32Array.from({ length: sequences }, (_, b) => words[2 * b]!),
    finite: Array.from({ length: sequences }, (_, b) => words[2 * b + 1] === 0),
  };
}
