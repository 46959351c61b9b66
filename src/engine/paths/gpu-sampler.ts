import { greedy, type Sampling } from "../path.js";
import type { BatchShape } from "../webgpu/batch-buffer.js";
import type { Gpu } from "../webgpu/device.js";
import { kernel } from "../webgpu/kernels.js";
import { type Activations, argmaxParts } from "./activations.js";
import type { Dispatch } from "./program.js";

/** Steps whose tokens the history can hold before they are read back. */
export const historySteps = 64;

/** The kernels that turn logits into tokens. */
export interface SamplerDispatches {
  readonly topP: Dispatch;
  readonly argmax: Dispatch;
  /** Stores the token; `advance` also makes it the next step's input. */
  readonly select: Dispatch;
  readonly advance: Dispatch;
}

/** Sampling on the GPU: what each sequence asks for, and a ring of the tokens chosen, [steps, sequences] pairs. */
export class GpuSampler {
  readonly history: GPUBuffer;
  readonly vocabularySize: number;
  readonly #requests: GPUBuffer;

  constructor(
    readonly gpu: Gpu,
    readonly buffers: Activations,
    vocabularySize: number,
    readonly historyWidth: number,
  ) {
    this.vocabularySize = vocabularySize;
    this.#requests = gpu.buffer("sampling", historyWidth * 16);
    this.history = gpu.buffer("history", historySteps * historyWidth * 8);
  }

  /** Bytes of one step's tokens in the history. */
  get stepBytes(): number {
    return this.historyWidth * 8;
  }

  /** The sampler's dispatches for batches whose header and arrays lie in these buffers. */
  async dispatches(header: GPUBuffer, batch: GPUBuffer): Promise<SamplerDispatches> {
    const { gpu, vocabularySize, historyWidth } = this;
    const { logits, parts } = this.buffers;
    const sampling = this.#requests;
    const { history } = this;
    const constants = { VOCABULARY: vocabularySize };
    const topP = await kernel(gpu, "top-p", constants);
    // A small vocabulary has no work for many workgroups.
    const count = Math.min(argmaxParts, Math.ceil(vocabularySize / 1024));
    const argmax = await kernel(gpu, "argmax", { ...constants, PARTS: count });
    const selection = { PARTS: count, HISTORY_WIDTH: historyWidth, HISTORY_STEPS: historySteps };
    const select = await kernel(gpu, "select-token", { ...selection, ADVANCE: false });
    const advance = await kernel(gpu, "select-token", { ...selection, ADVANCE: true });
    const none = { reads: [], writes: [] };
    const perSequence = (shape: BatchShape) => [shape.sequences, 1, 1] as const;
    const chosen = { header, parts, batch, history };
    return {
      topP: {
        label: "top_p",
        kernel: topP,
        group: topP.bind({ header, logits, sampling }),
        grid: perSequence,
        ...none,
      },
      argmax: {
        label: "argmax",
        kernel: argmax,
        group: argmax.bind({ header, logits, sampling, batch, parts }),
        grid: (shape) => [count, shape.sequences, 1],
        ...none,
      },
      select: { label: "select", kernel: select, group: select.bind(chosen), grid: perSequence, ...none },
      advance: { label: "select+advance", kernel: advance, group: advance.bind(chosen), grid: perSequence, ...none },
    };
  }

  /** Writes what each sequence asks of the sampler; returns whether any asks for top-p. */
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
    this.gpu.write(this.#requests, 0, new Uint8Array(view.buffer));
    return sampling?.some(({ temperature, topP }) => temperature > 0 && topP < 1) ?? false;
  }

  destroy(): void {
    this.history.destroy();
    this.#requests.destroy();
  }
}

/** One step of the history: the tokens, and whether the logits they were chosen from were finite. */
export function unpackTokens(words: Uint32Array, sequences: number): { tokenIds: Int32Array; finite: boolean[] } {
  return {
    tokenIds: Int32Array.from({ length: sequences }, (_, b) => words[2 * b]!),
    finite: Array.from({ length: sequences }, (_, b) => words[2 * b + 1] === 0),
  };
}
