import { afterAll, beforeAll, expect, test } from "vitest";
import type { Gpu } from "../../src/engine/webgpu/gpu.js";
import { kernel } from "../../src/engine/webgpu/kernels.js";
import { dispatch, header, normals, openTestDevice, randomNumbers } from "./gpu.js";
import { at, repeated, requests, sequences, vocabulary } from "./sampling-batch.js";

let gpu: Gpu;
beforeAll(async () => {
  gpu = await openTestDevice();
});
afterAll(() => gpu.destroy());

/** Draws one token per sequence from the same logits with different seeds. */
async function draw(logits: Float32Array, temperature: number, topP: number) {
  const ints = new Int32Array(450);
  for (let b = 0; b <= sequences; b++) ints[at.qoIndptrAt + b] = b;
  const operands = {
    header: header(gpu, { rows: sequences, sequences, pageSize: 1, ...at }),
    logits: gpu.upload("logits", repeated(logits)),
    sampling: gpu.upload("sampling", requests(temperature, topP)),
  };
  const batch = gpu.upload("batch", ints);
  const parts = gpu.buffer("parts", sequences * 64 * 16);
  const history = gpu.buffer("history", sequences * 8);
  const topPKernel = await kernel(gpu, "top-p", { VOCABULARY: vocabulary });
  await dispatch(gpu, topPKernel, operands, [sequences]);
  const argmax = await kernel(gpu, "argmax", { VOCABULARY: vocabulary });
  await dispatch(gpu, argmax, { ...operands, batch, parts }, [64, sequences]);
  const select = await kernel(gpu, "select-token", { ADVANCE: false, HISTORY_WIDTH: sequences, HISTORY_STEPS: 1 });
  await dispatch(gpu, select, { header: operands.header, parts, batch, history }, [sequences]);
  const words = new Uint32Array(await gpu.read(history));
  return { tokens: [...words].filter((_, i) => i % 2 === 0), flags: [...words].filter((_, i) => i % 2 === 1) };
}

test("greedy takes the greatest, the lowest of equals, and flags what argmax would hide", async () => {
  const logits = normals(randomNumbers(1), vocabulary);
  logits[200] = 9;
  logits[77] = 9;
  const clean = await draw(logits, 0, 1);
  expect(new Set(clean.tokens)).toEqual(new Set([77]));
  expect(clean.flags.every((flag) => flag === 0)).toBe(true);
  logits[3] = Number.NaN;
  const bad = await draw(logits, 0, 1);
  expect(bad.tokens[0]).toBe(77);
  expect(bad.flags.every((flag) => flag === 1)).toBe(true);
});

test("temperature draws from the softmax, top-p only from its nucleus, and a seed repeats", async () => {
  const logits = new Float32Array(vocabulary).fill(-30);
  // Probabilities 0.5, 0.3, 0.15, 0.05.
  [0.5, 0.3, 0.15, 0.05].forEach((p, i) => {
    logits[i * 70] = Math.log(p);
  });
  const all = await draw(logits, 1, 1);
  expect(await draw(logits, 1, 1)).toEqual(all);
  const counts = [0, 70, 140, 210].map((token) => all.tokens.filter((t) => t === token).length);
  expect(counts[0]! + counts[1]! + counts[2]! + counts[3]!).toBe(sequences);
  // 64 draws: within four standard deviations.
  expect(Math.abs(counts[0]! - 32)).toBeLessThan(16);
  expect(Math.abs(counts[1]! - 19)).toBeLessThan(15);
  const nucleus = await draw(logits, 1, 0.75);
  expect(new Set(nucleus.tokens)).toEqual(new Set([0, 70]));
});
