import { existsSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { describe, expect, it } from "vitest";
import { openCapture } from "../src/capture/reader.js";
import { writeLargeCaptures } from "../src/cli/benchmark/large-captures.js";
import { freeBytes } from "../src/cli/benchmark/temporary-folder.js";
import { compareCaptures } from "../src/compare/compare.js";

describe("the generated captures of `bench checker`", () => {
  it("are read piece by piece, differ by rounding-sized errors, and leave nothing behind", () => {
    expect(freeBytes(tmpdir())).toBeGreaterThan(0);
    const captures = writeLargeCaptures(tmpdir(), 2 ** 25, "bfloat16");
    try {
      expect(statSync(captures.reference).size).toBe(captures.bytes);
      expect(statSync(captures.target).size).toBe(captures.bytes);
      const reference = openCapture(captures.reference);
      const target = openCapture(captures.target);
      const before = process.memoryUsage().arrayBuffers;
      let most = 0;
      let told = 0;
      const onProgress = (done: number, total: number) => {
        most = Math.max(most, process.memoryUsage().arrayBuffers);
        told = done / total;
      };
      const result = compareCaptures(reference, target, { onProgress });
      reference.close();
      target.close();
      const value = result.values[0]!;
      expect(value.state).toBe("differs");
      expect(value.elements).toBe(2 ** 24);
      expect(value.timesNoise).toBeGreaterThan(0.5);
      expect(value.timesNoise).toBeLessThan(3);
      expect(told).toBe(1);
      // Chunks wait for the garbage collector, so a multiple of one is alive; the 64 MiB of both captures never are.
      expect(most - before).toBeLessThan(48 * 2 ** 20);
    } finally {
      captures.remove();
    }
    expect(existsSync(captures.reference)).toBe(false);
  });
});
