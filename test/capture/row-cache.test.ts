import { describe, expect, it } from "vitest";
import { RowCache } from "../../src/capture/row-cache.js";

describe("rows decoded lately", () => {
  it("are kept by view and index, each in memory of its own", () => {
    const cache = new RowCache();
    const views = [{}, {}];
    for (const [v, view] of views.entries()) {
      for (let index = 0; index < 100; index++) {
        const value = cache.room(1000);
        expect(value.length).toBe(1000);
        value.fill(v * 1000 + index);
        cache.keep(view, index, { value, dtype: "bfloat16", exact: false });
      }
    }
    for (const [v, view] of views.entries()) {
      for (let index = 0; index < 100; index++) {
        expect(cache.find(view, index)!.value.every((x) => x === v * 1000 + index)).toBe(true);
      }
    }
    expect(cache.find({}, 0)).toBeUndefined();
    expect(cache.find(views[0]!, 100)).toBeUndefined();
  });

  it("are dropped when they grow too many", () => {
    const cache = new RowCache();
    const view = {};
    const row = { value: cache.room(2 ** 20), dtype: "float32", exact: false } as const;
    cache.keep(view, 0, row);
    expect(cache.find(view, 0)).toBe(row);
    for (let index = 1; index < 7; index++) cache.keep(view, index, row);
    expect(cache.find(view, 0)).toBeUndefined();
    expect(cache.find(view, 6)).toBe(row);
  });
});
