import { describe, expect, it } from "vitest";
import { expectConsistent, keyCountOf } from "../../src/engine/run/batch.js";
import { type Scheduled, Scheduler, type SchedulerOptions } from "../../src/engine/serve/scheduler.js";
import { between, randomNumbers } from "./gpu.js";

function scheduler(options: Partial<SchedulerOptions> = {}): Scheduler {
  return new Scheduler({ pageCount: 64, pageSize: 4, maxRows: 64, maxSequences: 8, ...options });
}

function tokens(count: number, first = 0): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

/** Pretends that a path has run the batch: every sequence's next token is 1000 plus its length. */
function complete(subject: Scheduler, scheduled: Scheduled): void {
  const next = scheduled.entries.map(({ sequence }) => 1000 + sequence.tokens.length);
  subject.complete(
    scheduled,
    next,
    next.map(() => true),
  );
}

const rowsOf = (scheduled: Scheduled | undefined) =>
  scheduled?.entries.map(({ sequence, rows }) => [sequence.id, rows]);

describe("batches", () => {
  it("hold prompts of unequal lengths as ragged rows with FlashInfer's page table", () => {
    const subject = scheduler();
    subject.add({ tokenIds: tokens(5), maxTokens: 3 });
    subject.add({ tokenIds: tokens(1, 50), maxTokens: 3 });
    subject.add({ tokenIds: tokens(8, 60), maxTokens: 3 });
    const { batch } = subject.schedule()!;
    expect(batch.seqIds).toEqual([0, 1, 2]);
    expect([...batch.tokenIds]).toEqual([...tokens(5), 50, ...tokens(8, 60)]);
    expect([...batch.qoIndptr]).toEqual([0, 5, 6, 14]);
    expect([...batch.positions]).toEqual([...tokens(5), 0, ...tokens(8)]);
    expect([...batch.kvIndptr]).toEqual([0, 2, 3, 5]);
    expect([...batch.kvLastPageLen]).toEqual([1, 1, 4]);
    expect(new Set(batch.kvIndices).size).toBe(5);
    expectConsistent(batch);
  });

  it("mix decodes with chunks of prompts, decodes first", () => {
    const subject = scheduler({ maxRows: 6, chunk: 4 });
    subject.add({ tokenIds: tokens(2), maxTokens: 9 });
    subject.add({ tokenIds: tokens(11), maxTokens: 9 });
    const rows: unknown[] = [];
    for (let i = 0; i < 4; i++) {
      const scheduled = subject.schedule()!;
      rows.push(rowsOf(scheduled));
      expectConsistent(scheduled.batch);
      complete(subject, scheduled);
    }
    expect(rows).toEqual([
      [
        [0, 2],
        [1, 4],
      ],
      [
        [0, 1],
        [1, 4],
      ],
      [
        [0, 1],
        [1, 3],
      ],
      [
        [0, 1],
        [1, 1],
      ],
    ]);
  });

  it("take in new sequences and let go of ended ones at any time", () => {
    const subject = scheduler();
    const a = subject.add({ tokenIds: tokens(3), maxTokens: 2 });
    complete(subject, subject.schedule()!);
    const b = subject.add({ tokenIds: tokens(2), maxTokens: 5, endTokens: [1003] });
    expect(rowsOf(subject.schedule())).toEqual([
      [a.id, 1],
      [b.id, 2],
    ]);
    const scheduled = subject.schedule()!;
    complete(subject, scheduled);
    expect(a.finish).toBe("length");
    expect(a.generated).toEqual([1003, 1004]);
    complete(subject, subject.schedule()!);
    expect(b.finish).toBe("end");
    expect(b.generated).toEqual([1002, 1003]);
    const c = subject.add({ tokenIds: tokens(2), maxTokens: 5 });
    const d = subject.add({ tokenIds: tokens(2), maxTokens: 5 });
    subject.schedule();
    subject.remove(c);
    expect(c.finish).toBe("removed");
    expect(rowsOf(subject.schedule())).toEqual([[d.id, 2]]);
    subject.remove(d);
    expect(subject.schedule()).toBeUndefined();
    expect(subject.pool.freeCount).toBe(64);
  });

  it("ends a sequence whose logits are not finite", () => {
    const subject = scheduler();
    const a = subject.add({ tokenIds: tokens(3), maxTokens: 2 });
    subject.complete(subject.schedule()!, [7], [false]);
    expect(a.finish).toBe("nonfinite");
    expect(a.generated).toEqual([]);
    expect(subject.pool.freeCount).toBe(64);
  });

  it("keep within maxSequences", () => {
    const subject = scheduler({ maxSequences: 2 });
    for (let i = 0; i < 3; i++) subject.add({ tokenIds: tokens(2), maxTokens: 1 });
    expect(subject.schedule()!.entries).toHaveLength(2);
  });
});

describe("running out of pages", () => {
  it("makes the youngest sequence start over, with its tokens kept", () => {
    const subject = scheduler({ pageCount: 4 });
    const a = subject.add({ tokenIds: tokens(7), maxTokens: 6 });
    const b = subject.add({ tokenIds: tokens(6), maxTokens: 6 });
    complete(subject, subject.schedule()!);
    complete(subject, subject.schedule()!);
    complete(subject, subject.schedule()!);
    expect(subject.preemptions).toBe(1);
    expect(subject.waiting).toEqual([b]);
    expect(b.tokens).toHaveLength(8);
    expect(b.cache.pages).toEqual([]);
    while (!a.finish) complete(subject, subject.schedule()!);
    expect(rowsOf(subject.schedule())).toEqual([[b.id, 8]]);
    while (!b.finish) complete(subject, subject.schedule()!);
    expect(b.generated).toEqual(tokens(6, 1006));
  });

  it("refuses what would not fit alone", () => {
    const subject = scheduler({ pageCount: 4 });
    expect(() => subject.add({ tokenIds: tokens(10), maxTokens: 8 })).toThrow(/need 5 pages of 4, the cache has 4/);
    expect(() => subject.add({ tokenIds: tokens(10), maxTokens: 7 })).not.toThrow();
    expect(() => subject.add({ tokenIds: [], maxTokens: 7 })).toThrow(/at least one prompt token/);
    expect(() => subject.add({ tokenIds: [1], maxTokens: 0 })).toThrow(/maxTokens/);
  });
});

describe("decoding ahead", () => {
  it("goes as far as the shortest sequence and the free pages allow", () => {
    const subject = scheduler({ pageCount: 8 });
    subject.add({ tokenIds: tokens(3), maxTokens: 20 });
    subject.add({ tokenIds: tokens(3), maxTokens: 6 });
    expect(subject.reserveAhead(subject.schedule()!, 64)).toBe(1);
    const first = subject.schedule()!;
    complete(subject, first);
    const second = subject.schedule()!;
    expect(subject.reserveAhead(second, 64)).toBe(5);
    expect(second.entries.map(({ sequence }) => sequence.cache.pages.length)).toEqual([2, 2]);
    expect(subject.reserveAhead(second, 3)).toBe(3);
    subject.add({ tokenIds: tokens(1), maxTokens: 1 });
    expect(subject.reserveAhead(second, 64)).toBe(1);
  });
});

describe("any sequence of events", () => {
  it("gives consistent batches, every token once, and all pages back", () => {
    for (let seed = 0; seed < 30; seed++) {
      const random = randomNumbers(seed);
      const pageSize = [1, 5, 16][seed % 3]!;
      const subject = scheduler({
        pageCount: Math.ceil(120 / pageSize),
        pageSize,
        maxRows: between(random, 8, 40),
        chunk: between(random, 1, 8),
        maxSequences: between(random, 1, 6),
      });
      const all = [];
      for (let step = 0; step < 400; step++) {
        if (all.length < 15 && random() < 0.3) {
          all.push(subject.add({ tokenIds: tokens(between(random, 1, 40)), maxTokens: between(random, 1, 30) }));
        }
        if (all.length > 0 && random() < 0.02) subject.remove(all[between(random, 0, all.length - 1)]!);
        const scheduled = subject.schedule();
        if (!scheduled) continue;
        const { batch, entries } = scheduled;
        expectConsistent(batch);
        expect(new Set(batch.kvIndices).size).toBe(batch.kvIndices.length);
        expect(batch.tokenIds.length).toBeLessThanOrEqual(subject.options.maxRows);
        entries.forEach(({ sequence, rows }, b) => {
          expect(keyCountOf(batch, b)).toBe(sequence.cache.length + rows);
        });
        complete(subject, scheduled);
      }
      for (let scheduled = subject.schedule(); scheduled; scheduled = subject.schedule()) complete(subject, scheduled);
      for (const { finish, generated, request } of all) {
        if (finish === "removed") continue;
        expect(finish).toBe("length");
        expect(generated).toEqual(tokens(request.maxTokens, 1000 + request.tokenIds.length));
      }
      expect(subject.pool.freeCount).toBe(subject.options.pageCount);
    }
  });
});
