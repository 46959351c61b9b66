import { afterAll, beforeAll, expect, test } from "vitest";
import type { Cuda } from "../../../src/engine/cuda/cuda.js";
import { describeCuda } from "../backends.js";
import { normals, randomNumbers } from "../gpu.js";
import { at, repeated, requests, sequences, vocabulary } from "../sampling-batch.js";
import { header, launch } from "./launching.js";

const parts = 3;
const kvIndicesAt = 450;

describeCuda("sampling on CUDA", (open) => {
  let cuda: Cuda;
  beforeAll(async () => {
    cuda = await open();
  });
  afterAll(() => cuda.destroy());

  /** Draws one token per sequence from the same logits with different seeds. */
  async function draw(logits: Float32Array, temperature: number, topP: number, advance = false) {
    // Sequence b has 3 b + b % 3 tokens on pages of 3, and the next one goes onto page 200 + b.
    const ints = new Int32Array(kvIndicesAt + 2 * sequences * sequences);
    let entries = 0;
    for (let b = 0; b < sequences; b++) {
      ints[at.qoIndptrAt + b + 1] = b + 1;
      ints[at.kvLengthAt + b] = 3 * b + (b % 3);
      entries += b + 1;
      ints[at.kvIndptrAt + b + 1] = entries;
      ints[kvIndicesAt + entries - 1] = 200 + b;
    }
    const batch = cuda.upload("batch", ints);
    const common = {
      header: header(cuda, { rows: sequences, sequences, pageSize: 3, kvIndicesAt, ...at }),
      logits: cuda.upload("logits", repeated(logits)),
      sampling: cuda.upload("sampling", requests(temperature, topP)),
      vocabulary,
    };
    const best = cuda.buffer("best", sequences * parts * 16);
    const history = cuda.buffer("history", sequences * 8);
    launch(cuda, "top-p", common, [sequences]);
    launch(cuda, "argmax", { ...common, batch, best, parts }, [parts, sequences]);
    const ring = { history, historyWidth: sequences, historySteps: 1 };
    launch(cuda, "select-token", { header: common.header, best, batch, ...ring, parts, advance: advance ? 1 : 0 }, [
      sequences,
    ]);
    const words = new Uint32Array(await cuda.read(history));
    const after = new Int32Array(await cuda.read(batch));
    const part = (which: number) => [...words].filter((_, i) => i % 2 === which);
    return { tokens: part(0), flags: part(1), after };
  }

  test("greedy takes the greatest, the lowest of equals, and flags what a maximum would hide", async () => {
    const logits = normals(randomNumbers(1), vocabulary);
    // Equals in one part, and in two.
    for (const token of [200, 99, 77]) logits[token] = 9;
    const clean = await draw(logits, 0, 1);
    expect(new Set(clean.tokens)).toEqual(new Set([77]));
    expect(clean.flags.every((flag) => flag === 0)).toBe(true);
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
      logits[3] = bad;
      const found = await draw(logits, 0, 1);
      expect(found.tokens[0]).toBe(77);
      expect(found.flags.every((flag) => flag === 1)).toBe(true);
    }
    const none = await draw(new Float32Array(vocabulary).fill(Number.NaN), 0, 1);
    expect([none.tokens[0], none.flags[0]]).toEqual([0, 1]);
  });

  test("temperature draws from the softmax, top-p only from its nucleus, and a seed repeats", async () => {
    const logits = new Float32Array(vocabulary).fill(-30);
    for (const [i, p] of [0.5, 0.3, 0.15, 0.05].entries()) logits[i * 70] = Math.log(p);
    const all = await draw(logits, 1, 1);
    expect((await draw(logits, 1, 1)).tokens).toEqual(all.tokens);
    const counts = [0, 70, 140, 210].map((token) => all.tokens.filter((t) => t === token).length);
    expect(counts.reduce((sum, count) => sum + count)).toBe(sequences);
    // 64 draws: within four standard deviations.
    expect(Math.abs(counts[0]! - 32)).toBeLessThan(16);
    expect(Math.abs(counts[1]! - 19)).toBeLessThan(15);
    const nucleus = await draw(logits, 1, 0.75);
    expect(new Set(nucleus.tokens)).toEqual(new Set([0, 70]));
  });

  test("the batch moves on by the token, onto the page that is reserved", async () => {
    const logits = normals(randomNumbers(2), vocabulary);
    logits[31] = 20;
    const { after } = await draw(logits, 0, 1, true);
    for (let b = 0; b < sequences; b++) {
      expect(after[at.tokenIdsAt + b]).toBe(31);
      expect(after[at.positionsAt + b]).toBe(1);
      expect(after[at.kvLengthAt + b]).toBe(3 * b + (b % 3) + 1);
      expect(after[at.generatedAt + b]).toBe(1);
      expect(after[at.slotsAt + b]).toBe((200 + b) * 3 + (b % 3));
    }
  });
});
