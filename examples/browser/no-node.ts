/**
 * Stands in for what only Node has, so that the page can import the engine as it is: nodeAdapter for
 * src/engine/webgpu/node-gpu.ts, the others for node:fs and node:path.
 */

function unavailable(): never {
  throw new Error("not available in a browser");
}

export const nodeAdapter = unavailable;
export const readFileSync = unavailable;
export const join = unavailable;
