import type { ModelConfig } from "../../spec/models/config.js";

/** cos and sin per (position, pair), computed in float64 and rounded once: [positions, headDim / 2] pairs. */
export function rotaryTable(config: ModelConfig, positions: number): Float32Array<ArrayBuffer> {
  const half = config.headDim / 2;
  const table = new Float32Array(positions * half * 2);
  for (let position = 0; position < positions; position++) {
    for (let pair = 0; pair < half; pair++) {
      const angle = position * config.inverseFrequencies[pair]!;
      table[(position * half + pair) * 2] = Math.cos(angle) * config.ropeAttentionFactor;
      table[(position * half + pair) * 2 + 1] = Math.sin(angle) * config.ropeAttentionFactor;
    }
  }
  return table;
}
