/** Stands in for the two modules that the engine loads in Node alone: src/engine/webgpu/node-gpu.ts and node:fs/promises. */

function unavailable(): never {
  throw new Error("not available in a browser");
}

export const nodeAdapter = unavailable;
export const readFile = unavailable;
