import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { expectPlausible } from "../../src/capture/plausibility.js";
import { openCapture } from "../../src/capture/reader.js";
import { CaptureWriter } from "../../src/capture/writer.js";
import { diagnose } from "../../src/diagnose/diagnose.js";
import { encode } from "../../src/tensor/dtype.js";
import { SafetensorsFile, writeSafetensors } from "../../src/tensor/safetensors.js";
import { writePlainCapture, writeTinyModel } from "./tiny-run.js";

const folder = mkdtempSync(join(tmpdir(), "faultline-plausible-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => vi.restoreAllMocks());

/** Bytes of tensors read while `run` ran. */
function bytesRead(run: () => void): number {
  const readBytes = vi.spyOn(SafetensorsFile.prototype, "readBytes");
  run();
  return readBytes.mock.results.reduce(
    (sum, { value }) => sum + ((value as Uint8Array | undefined)?.byteLength ?? 0),
    0,
  );
}

describe("looking for one number in a recording", () => {
  it("reads no further than the first, however large the recording is", async () => {
    const path = join(folder, "large.safetensors");
    const ids = { name: "input_ids", dtype: "int32" as const, shape: [1, 4], bytes: encode([1, 2, 3, 4], "int32") };
    const values = (name: string) => ({
      name,
      dtype: "float32" as const,
      shape: [1, 4, 2 ** 19],
      bytes: new Uint8Array(2 ** 23),
    });
    writeSafetensors(path, [ids, values("a"), values("b"), values("c")]);
    const capture = openCapture(path);
    expect(bytesRead(() => expectPlausible(capture, 32))).toBeLessThanOrEqual(4096);
    capture.close();
  });

  it("reads bytes that many views address once", async () => {
    const path = join(folder, "views");
    const writer = new CaptureWriter(path, {});
    writer.step({ event: "step", step: 0, seq_ids: [1], token_ids: [3, 4], qo_indptr: [0, 2] });
    const view = { storage: "s", epoch: 0, dtype: "float32" as const, shape: [2, 16], strides: [16, 1], offset: 0 };
    const bytes = encode(new Array(32).fill(Number.NaN), "float32");
    for (let i = 0; i < 50; i++) writer.dense("model.embed_tokens", "output", view, bytes);
    writer.finishStep();
    const capture = openCapture(path);
    const read = bytesRead(() => expect(() => expectPlausible(capture, 32)).toThrow(/NaN in every element/));
    expect(read).toBe(128);
    capture.close();
  });

  it("is done once in a diagnosis", async () => {
    const model = writeTinyModel(join(folder, "model"));
    const target = join(folder, "run.safetensors");
    writePlainCapture(target, model, 1, 3);
    const readBytes = vi.spyOn(SafetensorsFile.prototype, "readBytes");
    await diagnose({ target, model: model.directory });
    // What it checks is small and read whole, by other means: only the look for a number reads bytes of the first value.
    const looks = readBytes.mock.calls.filter(([{ name }]) => name === "model.embed_tokens");
    expect(looks).toHaveLength(1);
  });
});
