import { expect, it } from "vitest";
import type { Backend, Commands, DeviceBuffer, StagingBuffer } from "../../src/engine/device/backend.js";
import { Stage } from "../../src/engine/device/stage.js";

/** Memory of the host in the place of a device's. */
class HostStaging implements StagingBuffer {
  readonly bytes: Uint8Array;

  constructor(readonly size: number) {
    this.bytes = new Uint8Array(size);
  }

  async read(byteLength = this.size): Promise<ArrayBuffer> {
    return this.bytes.slice(0, byteLength).buffer as ArrayBuffer;
  }

  destroy(): void {}
}

it("asks for no more memory than a few times what is copied, and gives every range back where it said", async () => {
  const given: HostStaging[] = [];
  const staging = (size: number) => {
    given.push(new HostStaging(size));
    return given.at(-1)!;
  };
  const source = Uint8Array.from({ length: 2 ** 19 }, (_, i) => (i * 40503) >> 7);
  const copy: Commands["copy"] = (_, from, to, at, length) =>
    (to as unknown as HostStaging).bytes.set(source.subarray(from, from + length), at);
  const stage = new Stage({ staging } as unknown as Backend);
  const ranges = Array.from({ length: 60 }, (_, i) => ({ from: 4096 * i, length: 4 * (9000 + 1000 * (i % 7)) }));
  const copies = ranges.map((range) => {
    const second = { from: 16, length: 32 };
    return { range, at: stage.copy({ copy } as Commands, {} as DeviceBuffer, [range, second]) };
  });
  const bytesAt = await stage.read();
  for (const { range, at } of copies) {
    expect(Buffer.compare(bytesAt(at, range.length), source.subarray(range.from, range.from + range.length))).toBe(0);
    expect(bytesAt(at + range.length, 32)).toEqual(source.subarray(16, 48));
  }
  const used = ranges.reduce((sum, { length }) => sum + length + 32, 0);
  expect(given.length).toBeGreaterThan(2);
  expect(given.reduce((sum, { size }) => sum + size, 0)).toBeLessThan(4 * used);
});

it("puts a copy that is larger than the next buffer into one of its own size", () => {
  const sizes: number[] = [];
  const staging = (size: number) => {
    sizes.push(size);
    return new HostStaging(8);
  };
  const stage = new Stage({ staging } as unknown as Backend);
  stage.copy({ copy: () => {} } as unknown as Commands, {} as DeviceBuffer, [{ from: 0, length: 2 ** 28 }]);
  expect(sizes).toEqual([2 ** 28]);
});
