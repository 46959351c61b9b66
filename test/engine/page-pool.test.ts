import { describe, expect, it } from "vitest";
import { PageList, PagePool } from "../../src/engine/serve/page-pool.js";
import { between, randomNumbers } from "./gpu.js";

describe("the page pool", () => {
  it("gives every page once, out of order, and none when it is empty", () => {
    const pool = new PagePool(50, 16);
    const pages = pool.allocate(50)!;
    expect([...pages].sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    expect(pages.filter((page, i) => i > 0 && page === pages[i - 1]! + 1).length).toBeLessThan(10);
    expect(pool.freeCount).toBe(0);
    expect(pool.allocate(1)).toBeUndefined();
    expect(pool.allocate(0)).toEqual([]);
  });

  it("takes all pages asked for or none", () => {
    const pool = new PagePool(4, 16);
    expect(pool.allocate(5)).toBeUndefined();
    expect(pool.freeCount).toBe(4);
  });

  it("recycles the last freed page first, and poisons what is freed", () => {
    const poisoned: number[] = [];
    const pool = new PagePool(8, 16, (pages) => poisoned.push(...pages));
    const [a, b, c] = pool.allocate(3)!;
    pool.free([b!]);
    expect(poisoned).toEqual([b]);
    expect(pool.allocate(1)).toEqual([b]);
    pool.free([a!, c!]);
    expect(poisoned).toEqual([b, a, c]);
  });

  it("refuses a page that is not allocated", () => {
    const pool = new PagePool(4, 16);
    const [page] = pool.allocate(1)!;
    pool.free([page!]);
    expect(() => pool.free([page!])).toThrow(`page ${page} is not allocated`);
  });

  it("never gives a page to two owners", () => {
    const pool = new PagePool(20, 4);
    const random = randomNumbers(5);
    const owners: number[][] = [];
    for (let i = 0; i < 2000; i++) {
      if (random() < 0.55) {
        const pages = pool.allocate(between(random, 0, 4));
        if (pages) owners.push(pages);
      } else if (owners.length > 0) pool.free(owners.splice(between(random, 0, owners.length - 1), 1)[0]!);
      const held = owners.flat();
      expect(new Set(held).size).toBe(held.length);
      expect(held.length + pool.freeCount).toBe(20);
    }
  });
});

describe("a sequence's pages", () => {
  it("grow as needed and address slots through the table", () => {
    const list = new PageList(new PagePool(10, 4));
    expect(list.reserve(5)).toBe(true);
    expect(list.pages).toHaveLength(2);
    expect(list.reserve(8)).toBe(true);
    expect(list.pages).toHaveLength(2);
    expect(list.slot(0)).toBe(list.pages[0]! * 4);
    expect(list.slot(6)).toBe(list.pages[1]! * 4 + 2);
    list.append(8);
    expect(() => list.append(1)).toThrow(/no room for 9 tokens/);
  });

  it("stay as they were when the pool has not enough, and go back all at once", () => {
    const pool = new PagePool(3, 4);
    const list = new PageList(pool);
    list.reserve(8);
    expect(list.reserve(100)).toBe(false);
    expect(list.pages).toHaveLength(2);
    list.release();
    expect(pool.freeCount).toBe(3);
    expect(list.length).toBe(0);
  });
});
