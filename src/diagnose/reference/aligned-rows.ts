import type { RowTable } from "../../spec/rows.js";

/** Where two runs of one text go on with different tokens. */
export interface ForkedText {
  readonly sequence: number;
  readonly position: number;
  readonly target: number;
  readonly reference: number;
}

/** A row of the target and one of the reference. */
export interface RowPair {
  readonly target: number;
  readonly reference: number;
}

/** Sequences may begin before their recording at so many different positions; those of further ones are not aligned. */
const mostStarts = 16;
/** Rows of the reference that are kept of one beginning: the same prompt in every sequence of a batch is one text. */
const mostTwins = 16;
const unknown = -1;

/**
 * Rows of two runs that computed the same token after the same tokens, in whatever steps, batch, padding or sequence: what
 * the model means by any value is then the same in both. Of a sequence that begins before its recording, the tokens that
 * both runs recorded are compared, at the positions they have.
 */
export class AlignedRows {
  readonly #rows = new Map<number, readonly number[]>();
  /** Where sequences that begin alike part. */
  readonly forks: readonly ForkedText[];
  /** Whether some rows are aligned although nobody recorded the tokens before them. */
  readonly fromInside: boolean;

  constructor(target: RowTable, reference: RowTable) {
    const prefixes = new Prefixes(Math.max(largest(target.token), largest(reference.token)) + 1);
    const begins = [beginnings(target), beginnings(reference)] as const;
    const starts = [...new Set([0, ...begins[0].values(), ...begins[1].values()])].sort((a, b) => a - b);
    let fromInside = false;
    for (const start of starts.slice(0, mostStarts)) {
      const rowsOf = new Map<number, number[]>();
      prefixes.ids(reference, start).forEach((id, row) => {
        const twins = id === unknown ? [] : (rowsOf.get(id) ?? []);
        if (id !== unknown && twins.length < mostTwins) rowsOf.set(id, [...twins, row]);
      });
      prefixes.ids(target, start).forEach((id, row) => {
        if (id === unknown || this.#rows.has(row)) return;
        // What both recorded from an earlier start on is compared from there.
        const twins = rowsOf.get(id)?.filter((other) => Math.max(begins[0].get(row)!, begins[1].get(other)!) === start);
        if (!twins || twins.length === 0) return;
        this.#rows.set(row, twins);
        fromInside ||= start > 0;
      });
    }
    this.fromInside = fromInside;
    this.forks = this.#findForks(target, reference);
  }

  /** How many rows of the target have one. */
  get count(): number {
    return this.#rows.size;
  }

  /** The reference's rows for a row of the target; empty where it has none. */
  of(row: number): readonly number[] {
    return this.#rows.get(row) ?? [];
  }

  /** Pairs of rows among those in which each run recorded a value. */
  pairs(target: Int32Array, reference: Int32Array): RowPair[] {
    const recorded = new Set(reference);
    return [...target].flatMap((row) => {
      const other = this.of(row).find((candidate) => recorded.has(candidate));
      return other === undefined ? [] : [{ target: row, reference: other }];
    });
  }

  #findForks(target: RowTable, reference: RowTable): ForkedText[] {
    const forks = new Map<number, ForkedText>();
    for (const [row, [other]] of this.#rows) {
      const [next, others] = [follower(target, row), follower(reference, other!)];
      const sequence = target.seqId[row]!;
      if (next === undefined || others === undefined || this.#rows.has(next) || forks.has(sequence)) continue;
      const [ours, theirs] = [target.token[next]!, reference.token[others]!];
      if (ours === theirs) continue;
      forks.set(sequence, { sequence, position: target.position[next]!, target: ours, reference: theirs });
    }
    return [...forks.values()];
  }
}

/** The row after `row` in its sequence. */
function follower(table: RowTable, row: number): number | undefined {
  return historyOf(table, row)[table.position[row]! + 1];
}

function historyOf(table: RowTable, row: number): readonly number[] {
  return table.steps[table.stepOf[row]!]!.histories[table.sequenceOf[row]!]!;
}

/** The first position of each row's sequence whose token is known. */
function beginnings(table: RowTable): Map<number, number> {
  const begins = new Map<number, number>();
  for (let row = 0; row < table.count; row++) {
    if (table.stepOf[row]! < 0) continue;
    const position = table.position[row]!;
    const before = position > 0 ? begins.get(historyOf(table, row)[position - 1]!) : undefined;
    begins.set(row, before ?? position);
  }
  return begins;
}

function largest(numbers: readonly number[]): number {
  return numbers.reduce((most, n) => Math.max(most, n), 0);
}

/** Numbers for texts: equal ones for equal tokens from equal positions on, and for nothing else. */
class Prefixes {
  readonly #ids = new Map<number, number>();

  /** @param tokens how many different ones there are. */
  constructor(readonly tokens: number) {}

  /** For each row that of its sequence's text from position `start` up to it; -1 where it begins later, or ends before. */
  ids(table: RowTable, start: number): number[] {
    const ids = new Array<number>(table.count).fill(unknown);
    const root = this.#numberOf(-1 - start);
    for (let row = 0; row < table.count; row++) {
      const position = table.position[row]!;
      if (table.stepOf[row]! < 0 || position < start) continue;
      const before = position === start ? root : ids[historyOf(table, row)[position - 1]!]!;
      if (before !== unknown) ids[row] = this.#numberOf(before * this.tokens + table.token[row]!);
    }
    return ids;
  }

  #numberOf(key: number): number {
    let id = this.#ids.get(key);
    if (id === undefined) {
      id = this.#ids.size;
      this.#ids.set(key, id);
    }
    return id;
  }
}
