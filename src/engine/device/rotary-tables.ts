import { type Rotation, turnAlike } from "../program/rotation.js";
import type { Backend, DeviceBuffer } from "./backend.js";

/** cos and sin of every position, one table for all layers that rotate alike. */
export class RotaryTables {
  readonly #tables: { readonly rotation: Rotation; readonly buffer: DeviceBuffer }[] = [];

  constructor(
    readonly backend: Backend,
    readonly positions: number,
  ) {}

  /** [positions, headDim / 2] pairs of cos and sin. */
  of(rotation: Rotation): DeviceBuffer {
    const known = this.#tables.find((table) => turnAlike(table.rotation, rotation));
    if (known) return known.buffer;
    const buffer = this.backend.upload("angles", rotaryTable(rotation, this.positions));
    this.#tables.push({ rotation, buffer });
    return buffer;
  }

  destroy(): void {
    for (const { buffer } of this.#tables) buffer.destroy();
  }
}

/** Computed in float64 and rounded once: a kernel's own cos is not good enough at large positions. */
function rotaryTable(rotation: Rotation, positions: number): Float32Array<ArrayBuffer> {
  const { inverseFrequencies, attentionFactor } = rotation;
  const half = inverseFrequencies.length;
  const table = new Float32Array(positions * half * 2);
  for (let position = 0; position < positions; position++) {
    for (let pair = 0; pair < half; pair++) {
      const angle = position * inverseFrequencies[pair]!;
      table[(position * half + pair) * 2] = Math.cos(angle) * attentionFactor;
      table[(position * half + pair) * 2 + 1] = Math.sin(angle) * attentionFactor;
    }
  }
  return table;
}
