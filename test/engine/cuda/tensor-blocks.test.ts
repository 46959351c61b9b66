import { expect, test } from "vitest";
import { cheapestTile } from "../../../src/engine/cuda/tensor-blocks.js";

/** The tiles that were the fastest on an H200, or within five percent of it, of Qwen3 0.6B's products. */
const fastest: [rows: number, weightRows: number, tile: string][] = [
  [2048, 4096, "128x128x3"],
  [2048, 6144, "128x128x3"],
  [2048, 1024, "64x128x4"],
  [512, 4096, "64x128x4"],
  [512, 6144, "64x128x3"],
  [512, 1024, "32x32x4"],
  [256, 4096, "64x32x4"],
  [256, 6144, "64x64x4"],
  [256, 1024, "32x32x4"],
  [64, 4096, "32x32x4"],
  [32, 1024, "32x32x4"],
];

test.each(fastest)("%i rows by %i weight rows take tiles of %s", (rows, weightRows, tile) => {
  expect(cheapestTile(rows, weightRows, 132).variant).toBe(tile);
});
