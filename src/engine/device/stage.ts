import type { Backend, Commands, DeviceBuffer, StagingBuffer } from "./backend.js";

/** Bytes of the first staging buffer and of the largest: each is twice the one before, since a device clears what it gives. */
const firstBytes = 2 ** 18;
const mostBytes = 2 ** 27;

/** Host-readable memory that grows in pieces; the ranges of one copy lie together in one piece. */
export class Stage {
  readonly #chunks: { buffer: StagingBuffer; used: number; start: number }[] = [];
  #end = 0;

  constructor(readonly backend: Backend) {}

  /** @returns where the ranges lie among the staged bytes, one after the other. */
  copy(commands: Commands, source: DeviceBuffer, ranges: readonly { from: number; length: number }[]): number {
    const total = ranges.reduce((sum, { length }) => sum + length, 0);
    let chunk = this.#chunks.at(-1);
    if (!chunk || chunk.used + total > chunk.buffer.size) {
      const next = chunk ? Math.min(2 * chunk.buffer.size, mostBytes) : firstBytes;
      const size = Math.max(next, Math.ceil(total / 4) * 4);
      chunk = { buffer: this.backend.staging(size), used: 0, start: this.#end };
      this.#chunks.push(chunk);
    }
    const at = chunk.start + chunk.used;
    for (const { from, length } of ranges) {
      commands.copy(source, from, chunk.buffer, chunk.used, length);
      chunk.used += length;
    }
    this.#end = chunk.start + chunk.used;
    return at;
  }

  /** Waits, and returns how to get at staged bytes. */
  async read(): Promise<(at: number, length: number) => Uint8Array> {
    const contents: { start: number; bytes: Uint8Array }[] = [];
    for (const { buffer, used, start } of this.#chunks) {
      contents.push({ start, bytes: new Uint8Array(await buffer.read(Math.max(used, 4))) });
    }
    return (at, length) => {
      const chunk = contents.findLast(({ start }) => start <= at)!;
      return chunk.bytes.subarray(at - chunk.start, at - chunk.start + length);
    };
  }

  destroy(): void {
    for (const { buffer } of this.#chunks) buffer.destroy();
  }
}
