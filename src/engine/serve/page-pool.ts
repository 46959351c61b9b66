import { slotAt } from "../run/page-table.js";

/** Fills recycled pages with a pattern, so that nothing can depend on what an earlier sequence left there. */
export type Poison = (pages: readonly number[]) => void;

/**
 * The physical pages of a KV cache: who owns which. Free pages are kept in a shuffled order from the start, so that a
 * sequence's pages never lie in line and a reader that ignores the page table cannot go unnoticed.
 */
export class PagePool {
  readonly #free: number[];
  readonly #owned = new Set<number>();

  /** @param poison called with pages as they are freed. */
  constructor(
    readonly pageCount: number,
    readonly pageSize: number,
    readonly poison?: Poison,
  ) {
    this.#free = shuffled(pageCount);
  }

  get freeCount(): number {
    return this.#free.length;
  }

  /** Pages that `tokens` tokens take. */
  pagesFor(tokens: number): number {
    return Math.ceil(tokens / this.pageSize);
  }

  /** Takes `count` pages, or none: undefined when fewer are free. */
  allocate(count: number): number[] | undefined {
    if (count > this.#free.length) return undefined;
    const pages = this.#free.splice(this.#free.length - count, count).reverse();
    for (const page of pages) this.#owned.add(page);
    return pages;
  }

  /** Gives pages back; the next to be allocated. @throws Error when a page is not allocated: it would be owned twice. */
  free(pages: readonly number[]): void {
    for (const page of pages) {
      if (!this.#owned.delete(page)) throw new Error(`page ${page} is not allocated`);
      this.#free.push(page);
    }
    if (pages.length > 0) this.poison?.(pages);
  }
}

/** The pages of one sequence and how many of its tokens lie in them. */
export class PageList {
  readonly pages: number[] = [];
  /** Tokens whose K and V have been appended. */
  length = 0;

  constructor(readonly pool: PagePool) {}

  /** Makes room for `tokens` tokens in all. @returns whether the pool had enough pages; it is left as it was if not. */
  reserve(tokens: number): boolean {
    const missing = this.pool.pagesFor(tokens) - this.pages.length;
    if (missing <= 0) return true;
    const pages = this.pool.allocate(missing);
    if (!pages) return false;
    this.pages.push(...pages);
    return true;
  }

  /** Counts `tokens` more tokens as appended. @throws Error without room for them. */
  append(tokens: number): void {
    if (this.length + tokens > this.pages.length * this.pool.pageSize)
      throw new Error(
        `${this.pages.length} pages of ${this.pool.pageSize} have no room for ${this.length + tokens} tokens`,
      );
    this.length += tokens;
  }

  /** Slot of the token at `position`: page · pageSize + place in the page. */
  slot(position: number): number {
    return slotAt(this.pages, 0, position, this.pool.pageSize);
  }

  /** Gives all pages back. */
  release(): void {
    this.pool.free(this.pages.splice(0));
    this.length = 0;
  }
}

/** 0 … count-1 in a fixed random order (Fisher-Yates over a linear congruential generator). */
function shuffled(count: number): number[] {
  const order = Array.from({ length: count }, (_, i) => i);
  let state = 1;
  for (let i = count - 1; i > 0; i--) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    const j = Math.floor((state / 2 ** 32) * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
