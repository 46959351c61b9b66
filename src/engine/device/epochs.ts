/** One record of a value: its bytes, and how they are addressed. */
export interface RecordedBytes {
  readonly name: string;
  readonly role: "output" | "input";
  readonly storage: string;
  /** The same for records that address the same bytes. */
  readonly address: string;
  readonly parts: readonly Uint8Array[];
}

/**
 * Write epochs of storages within a step. Every production is a new epoch; a reader sees its producer's epoch when the
 * bytes are still the same, and one of its own when somebody has written in between.
 */
export class Epochs {
  readonly #next = new Map<string, number>();
  readonly #produced = new Map<string, RecordedBytes & { readonly epoch: number }>();

  of(record: RecordedBytes): number {
    const { name, role, storage, address, parts } = record;
    const known = this.#produced.get(name);
    if (role === "input" && known?.address === address && sameBytes(known.parts, parts)) return known.epoch;
    const epoch = (this.#next.get(storage) ?? 0) + 1;
    this.#next.set(storage, epoch);
    this.#produced.set(name, { ...record, epoch });
    return epoch;
  }
}

function sameBytes(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.length === b.length && a.every((part, i) => equalBytes(part, b[i]!));
}

function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
