import type { Batch } from "../../src/engine/run/batch.js";

/** A sequence as tests grow it: its tokens so far and its pages, which they choose themselves. */
export interface TestSequence {
  readonly id: number;
  length: number;
  readonly pages: number[];
}

/** Takes pages from a shuffled pool and builds batches by the definition of the page table. */
export class TestPages {
  readonly #free: number[];

  constructor(
    pageCount: number,
    readonly pageSize: number,
    random: () => number,
  ) {
    this.#free = Array.from({ length: pageCount }, (_, i) => i);
    for (let i = pageCount - 1; i > 0; i--) {
      const j = Math.floor(random() * (i + 1));
      [this.#free[i], this.#free[j]] = [this.#free[j]!, this.#free[i]!];
    }
  }

  sequence(id: number): TestSequence {
    return { id, length: 0, pages: [] };
  }

  /** Gives a sequence's pages back, last first. */
  release(sequence: TestSequence): number[] {
    const pages = [...sequence.pages];
    this.#free.push(...pages.reverse());
    sequence.pages.length = 0;
    sequence.length = 0;
    return pages;
  }

  /** Pages for `tokens` more tokens after the sequence's present ones, not yet part of its table. */
  reserve(sequence: TestSequence, tokens: number): number[] {
    const needed = Math.ceil((sequence.length + tokens) / this.pageSize) - sequence.pages.length;
    return Array.from({ length: Math.max(0, needed) }, () => this.#free.pop()!);
  }

  /** One step: each entry's tokens go after what its sequence has. */
  batch(entries: readonly { sequence: TestSequence; tokens: readonly number[] }[]): Batch {
    const { pageSize } = this;
    const qoIndptr = [0];
    const kvIndptr = [0];
    const tokenIds: number[] = [];
    const positions: number[] = [];
    const kvIndices: number[] = [];
    const kvLastPageLen: number[] = [];
    const slotMapping: number[] = [];
    for (const { sequence, tokens } of entries) {
      sequence.pages.push(...this.reserve(sequence, tokens.length));
      for (const token of tokens) {
        const position = sequence.length++;
        tokenIds.push(token);
        positions.push(position);
        slotMapping.push(sequence.pages[Math.floor(position / pageSize)]! * pageSize + (position % pageSize));
      }
      kvIndices.push(...sequence.pages.slice(0, Math.ceil(sequence.length / pageSize)));
      kvLastPageLen.push(((sequence.length - 1) % pageSize) + 1);
      qoIndptr.push(tokenIds.length);
      kvIndptr.push(kvIndices.length);
    }
    return {
      seqIds: entries.map(({ sequence }) => sequence.id),
      tokenIds: Int32Array.from(tokenIds),
      qoIndptr: Int32Array.from(qoIndptr),
      positions: Int32Array.from(positions),
      kvIndptr: Int32Array.from(kvIndptr),
      kvIndices: Int32Array.from(kvIndices),
      kvLastPageLen: Int32Array.from(kvLastPageLen),
      slotMapping: Int32Array.from(slotMapping),
      pageSize,
    };
  }
}
