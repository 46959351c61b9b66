import { describe, expect, it } from "vitest";
import { copied, floats, kept, withoutScratch, withScratch } from "../../src/tensor/scratch.js";

describe("memory of a piece of work", () => {
  it("is handed out again, as zeros, when the work is done", () => {
    const first = withScratch(() => floats(100).fill(7));
    const second = withScratch(() => floats(100));
    expect(second.buffer).toBe(first.buffer);
    expect(second.every((x) => x === 0)).toBe(true);
  });

  it("is not shared by arrays that live at the same time", () => {
    withScratch(() => {
      const outer = floats(10).fill(1);
      withScratch(() => {
        copied(outer).fill(2);
        // More than one stretch of memory holds.
        floats(2 ** 18).fill(3);
        floats(10).fill(4);
      });
      floats(2 ** 17).fill(5);
      expect(outer).toEqual(new Float64Array(10).fill(1));
    });
  });

  it("is left alone by what outlives the work", () => {
    const [own, copy, asked, jump] = withScratch(() => {
      const passing = floats(4).fill(1);
      return [passing, kept(passing), withoutScratch(() => copied(floats(4).fill(2))), kept(undefined)] as const;
    });
    withScratch(() => floats(4).fill(9));
    expect(own).toEqual(new Float64Array(4).fill(9));
    expect(copy).toEqual(new Float64Array(4).fill(1));
    expect(asked).toEqual(new Float64Array(4).fill(2));
    expect(jump).toBeUndefined();
  });

  it("is freed by work that throws, and by work within what outlives it", () => {
    const first = withScratch(() => floats(4));
    expect(() =>
      withScratch(() => {
        floats(4);
        throw new Error("broken");
      }),
    ).toThrow("broken");
    withScratch(() => {
      const outer = floats(2 ** 21 + 1).fill(1);
      withoutScratch(() => withScratch(() => floats(8).fill(2)));
      expect(outer[0]).toBe(1);
      expect(floats(4).length).toBe(4);
    });
    expect(withScratch(() => floats(4)).byteOffset).toBe(first.byteOffset);
  });

  it("is an array of its own without work", () => {
    const values = floats(3);
    expect(values.buffer.byteLength).toBe(24);
    expect(kept(values)).toBe(values);
  });
});
