import { describe, expect, it } from "vitest";
import { byteWidth, Decoder, decode, decodeInto, dtypes, elementReader } from "../../src/tensor/dtype.js";

/** Reproducible bytes, at an address that is `shift` bytes off. */
function bytesAt(shift: number, count: number): Uint8Array {
  const all = new Uint8Array(shift + count);
  let state = 9;
  for (let i = 0; i < all.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    all[i] = state >>> 24;
  }
  return all.subarray(shift);
}

describe.each(dtypes)("decoding %s", (dtype) => {
  const width = byteWidth(dtype);
  const read = elementReader(dtype);

  it.each([0, 1, 2, 4])("gives each element where it lies, %d bytes off alignment", (shift) => {
    const bytes = bytesAt(shift, 40 * width + width - 1);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const expected = Array.from({ length: 40 }, (_, i) => read(view, i * width));
    const decoder = new Decoder(bytes, dtype);
    expect(decoder.length).toBe(40);
    for (const [first, count, stride] of [
      [0, 40, 1],
      [7, 11, 1],
      [3, 12, 3],
      [39, 40, -1],
      [5, 4, 0],
      [2, 0, 1],
    ] as const) {
      const out = new Float64Array(50).fill(-7);
      decoder.into(first, count, stride, out, 6);
      expect([...out.subarray(6, 6 + count)]).toEqual(
        Array.from({ length: count }, (_, i) => expected[first + i * stride]),
      );
      expect([...out.subarray(0, 6), ...out.subarray(6 + count)].every((x) => x === -7)).toBe(true);
    }
    expect([...decode(bytes, dtype)]).toEqual(expected);
    const part = new Float64Array(3);
    decodeInto(bytes, dtype, 5 * width, 3, part, 0);
    expect([...part]).toEqual(expected.slice(5, 8));
  });

  it("refuses elements outside the bytes, and more than there is room for", () => {
    const decoder = new Decoder(new Uint8Array(4 * width), dtype);
    const out = new Float64Array(8);
    for (const [first, count, stride] of [
      [0, 5, 1],
      [-1, 2, 1],
      [0, 2, -1],
      [3, 2, 1],
      [0, 2, 4],
    ] as const)
      expect(() => decoder.into(first, count, stride, out, 0)).toThrow("bytes end before the last element");
    expect(() => decoder.into(0, 4, 1, out, 5)).toThrow("more elements than there is room for");
    expect(() => decodeInto(new Uint8Array(4 * width), dtype, width, 4, out, 0)).toThrow(RangeError);
  });
});
