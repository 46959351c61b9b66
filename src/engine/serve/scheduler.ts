import type { Batch } from "../run/batch.js";
import { greedy, type Sampling } from "../run/sampling.js";
import { PageList, PagePool, type Poison } from "./page-pool.js";

export interface Request {
  /** Prompt, at least one token. */
  readonly tokenIds: readonly number[];
  /** Most tokens to generate. */
  readonly maxTokens: number;
  /** @default greedy */
  readonly sampling?: Sampling | undefined;
  /** Tokens that end the text; they are generated but not continued. @default none */
  readonly endTokens?: readonly number[] | undefined;
}

/** Why a sequence ended: an end token, its length, logits with NaN or infinity, or removal. */
export type Finish = "end" | "length" | "nonfinite" | "removed";

/** A request on its way: its tokens so far, and the pages that hold the keys of the first `cache.length` of them. */
export class Sequence {
  readonly tokens: number[];
  finish: Finish | undefined;

  constructor(
    readonly id: number,
    readonly request: Request,
    readonly cache: PageList,
  ) {
    this.tokens = [...request.tokenIds];
  }

  get generated(): readonly number[] {
    return this.tokens.slice(this.request.tokenIds.length);
  }

  get generatedCount(): number {
    return this.tokens.length - this.request.tokenIds.length;
  }

  get remaining(): number {
    return this.request.maxTokens - this.generatedCount;
  }

  get sampling(): Sampling {
    return this.request.sampling ?? greedy;
  }

  /** Whether the cache lacks the last token alone: the next row yields a new token. */
  get isDecoding(): boolean {
    return this.cache.length === this.tokens.length - 1;
  }
}

export interface SchedulerOptions {
  readonly pageCount: number;
  readonly pageSize: number;
  /** Rows one batch may have. */
  readonly maxRows: number;
  readonly maxSequences: number;
  /** Rows a sequence's prompt may take of one batch; a longer prompt is computed in several. @default maxRows */
  readonly chunk?: number | undefined;
  readonly poison?: Poison | undefined;
}

/** A batch and whose rows it has; only rows that complete a sequence's tokens yield a new one. */
export interface Scheduled {
  readonly batch: Batch;
  readonly entries: readonly { readonly sequence: Sequence; readonly rows: number }[];
}

/**
 * Which rows run next. Running sequences go first, in order of arrival, one row each while they decode; the rest of the
 * batch is filled with chunks of prompts. When pages run out, the youngest running sequence gives up its own and starts
 * over later (preemption by recompute): its tokens are kept, so its text does not change.
 */
export class Scheduler {
  readonly pool: PagePool;
  readonly waiting: Sequence[] = [];
  readonly running: Sequence[] = [];
  /** Times a sequence had to give up its pages. */
  preemptions = 0;
  #nextId = 0;

  constructor(readonly options: SchedulerOptions) {
    this.pool = new PagePool(options.pageCount, options.pageSize, options.poison);
  }

  /** @throws Error when the request could not run even alone. */
  add(request: Request): Sequence {
    const { pageCount, pageSize } = this.options;
    const { tokenIds, maxTokens } = request;
    if (tokenIds.length === 0) throw new Error("expected at least one prompt token");
    if (!Number.isInteger(maxTokens) || maxTokens < 1)
      throw new Error(`maxTokens: expected at least 1, found ${maxTokens}`);
    // The last token generated is never appended.
    const needed = this.pool.pagesFor(tokenIds.length + maxTokens - 1);
    if (needed > pageCount)
      throw new Error(
        `a prompt of ${tokenIds.length} tokens and ${maxTokens} more need ${needed} pages of ${pageSize}, the cache has ${pageCount}`,
      );
    const sequence = new Sequence(this.#nextId++, request, new PageList(this.pool));
    this.waiting.push(sequence);
    return sequence;
  }

  /** Ends a sequence and frees its pages. */
  remove(sequence: Sequence, finish: Finish = "removed"): void {
    if (sequence.finish) return;
    sequence.finish = finish;
    sequence.cache.release();
    for (const list of [this.waiting, this.running]) {
      const at = list.indexOf(sequence);
      if (at >= 0) list.splice(at, 1);
    }
  }

  /** The next batch, or undefined when no sequence is left. */
  schedule(): Scheduled | undefined {
    const entries: { sequence: Sequence; rows: number }[] = [];
    let room = this.options.maxRows;
    for (let i = 0; i < this.running.length && room > 0; i++) {
      const sequence = this.running[i]!;
      const rows = this.#rowsFor(sequence, room);
      if (!this.#makeRoom(sequence, rows)) break;
      entries.push({ sequence, rows });
      room -= rows;
    }
    while (this.waiting.length > 0 && room > 0 && this.running.length < this.options.maxSequences) {
      const sequence = this.waiting[0]!;
      const rows = this.#rowsFor(sequence, room);
      // All its tokens must fit, not only the first chunk: admitting less would preempt it again at once.
      if (this.pool.pagesFor(sequence.tokens.length) > this.pool.freeCount) break;
      sequence.cache.reserve(rows);
      this.waiting.shift();
      this.running.push(sequence);
      entries.push({ sequence, rows });
      room -= rows;
    }
    return entries.length === 0 ? undefined : { batch: this.#batch(entries), entries };
  }

  /**
   * Counts the batch's rows as appended and gives every sequence that completed its tokens its next one; for each step of
   * a run that `reserveAhead` allowed too.
   * @returns the sequences that got a token.
   */
  complete({ entries }: Scheduled, tokenIds: ArrayLike<number>, finite: readonly boolean[]): Sequence[] {
    const extended: Sequence[] = [];
    for (const [b, { sequence, rows }] of entries.entries()) {
      if (sequence.finish) continue;
      sequence.cache.append(rows);
      if (sequence.cache.length < sequence.tokens.length) continue;
      if (finite[b]) {
        this.#extend(sequence, tokenIds[b]!);
        extended.push(sequence);
      } else this.remove(sequence, "nonfinite");
    }
    return extended;
  }

  /**
   * How many tokens the batch's sequences can all generate without a decision in between: 1 unless every sequence decodes
   * and none waits for a place. Pages for the later ones are reserved.
   */
  reserveAhead({ entries }: Scheduled, most: number): number {
    if (this.waiting.length > 0 || entries.length < this.running.length) return 1;
    if (entries.some(({ sequence }) => !sequence.isDecoding)) return 1;
    const steps = Math.min(most, ...entries.map(({ sequence }) => sequence.remaining));
    const missing = entries.map(
      ({ sequence: { cache } }) => this.pool.pagesFor(cache.length + steps) - cache.pages.length,
    );
    if (missing.reduce((sum, count) => sum + Math.max(0, count), 0) > this.pool.freeCount) return 1;
    for (const { sequence } of entries) sequence.cache.reserve(sequence.cache.length + steps);
    return steps;
  }

  #extend(sequence: Sequence, token: number): void {
    sequence.tokens.push(token);
    if (sequence.request.endTokens?.includes(token)) this.remove(sequence, "end");
    else if (sequence.remaining === 0) this.remove(sequence, "length");
  }

  #rowsFor(sequence: Sequence, room: number): number {
    const missing = sequence.tokens.length - sequence.cache.length;
    return Math.min(missing, room, this.options.chunk ?? room);
  }

  /** Pages for `rows` more tokens of a running sequence, taken from the youngest ones if need be. */
  #makeRoom(sequence: Sequence, rows: number): boolean {
    while (!sequence.cache.reserve(sequence.cache.length + rows)) {
      const youngest = this.running.at(-1)!;
      this.#preempt(youngest);
      if (youngest === sequence) return false;
    }
    return true;
  }

  #preempt(sequence: Sequence): void {
    this.preemptions++;
    sequence.cache.release();
    this.running.pop();
    this.waiting.unshift(sequence);
  }

  #batch(entries: Scheduled["entries"]): Batch {
    const { pageSize } = this.options;
    const tokenIds: number[] = [];
    const positions: number[] = [];
    const slotMapping: number[] = [];
    const qoIndptr = [0];
    const kvIndptr = [0];
    const kvIndices: number[] = [];
    const kvLastPageLen: number[] = [];
    for (const { sequence, rows } of entries) {
      const { cache, tokens } = sequence;
      const length = cache.length + rows;
      for (let position = cache.length; position < length; position++) {
        tokenIds.push(tokens[position]!);
        positions.push(position);
        slotMapping.push(cache.slot(position));
      }
      qoIndptr.push(tokenIds.length);
      kvIndices.push(...cache.pages.slice(0, this.pool.pagesFor(length)));
      kvIndptr.push(kvIndices.length);
      kvLastPageLen.push(((length - 1) % pageSize) + 1);
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
