import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Gpu } from "../../src/engine/webgpu/gpu.js";
import { kernel } from "../../src/engine/webgpu/kernels.js";
import { awaitPatiently } from "../../src/engine/webgpu/patience.js";
import { openTestDevice } from "./gpu.js";

/** Turns of the event loop until `pending` is done, in each millisecond of that time. */
async function turnsPerMillisecond(pending: Promise<unknown>): Promise<number> {
  let turns = 0;
  let done = false;
  const turn = () => {
    turns++;
    if (!done) setImmediate(turn);
  };
  setImmediate(turn);
  const start = performance.now();
  await pending;
  done = true;
  return turns / (performance.now() - start);
}

const sevenAfter = (milliseconds: number) => new Promise<number>((resolve) => setTimeout(resolve, milliseconds, 7));

describe("what waits for a software GPU", () => {
  let gpu: Gpu;
  beforeAll(async () => {
    gpu = await openTestDevice({ adapter: "software" });
  });
  afterAll(() => gpu.destroy());

  it("leaves it the processor: the event loop turns a few times a millisecond, and as ever when it is done", async () => {
    expect(await turnsPerMillisecond(awaitPatiently(sevenAfter(200)))).toBeLessThan(4);
    const later = [];
    // The best of some, since other programs may have the processor for a while.
    for (let i = 0; i < 5; i++) later.push(await turnsPerMillisecond(sevenAfter(10)));
    expect(Math.max(...later)).toBeGreaterThan(8);
  });

  it("does so while a kernel is compiled", async () => {
    const compile = (headDim: number) =>
      kernel(gpu, "attention-decode", { GROUP: 2, HEAD_DIM: headDim, QUERY_FORMAT: 2, CACHE_FORMAT: 2 });
    // Once to read its files, which is not waited for in this way.
    await compile(16);
    const compiled = compile(32);
    expect(await turnsPerMillisecond(compiled)).toBeLessThan(4);
  });

  it("is given what came, and the reason when nothing can", async () => {
    expect(await Promise.all([awaitPatiently(sevenAfter(1)), awaitPatiently(sevenAfter(5))])).toEqual([7, 7]);
    await expect(awaitPatiently(Promise.reject(new Error("lost")))).rejects.toThrow("lost");
  });
});
