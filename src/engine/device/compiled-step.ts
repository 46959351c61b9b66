import type { Batch } from "../run/batch.js";
import type { DeviceBuffer, Launch } from "./backend.js";
import type { Place } from "./places.js";

/** A value of the spec where a step reads or leaves it: at its place, or in the pages of a cache. */
export interface Tap {
  readonly name: string;
  readonly buffer: DeviceBuffer;
  /** Undefined for pages. */
  readonly place: Place | undefined;
}

/** A step's launches with the values it reads and leaves. */
export interface CompiledStep {
  readonly label: string;
  readonly launches: readonly Launch[];
  /** What the host computes in their place. */
  readonly onHost?: (batch: Batch) => Promise<void>;
  readonly reads: readonly Tap[];
  readonly writes: readonly Tap[];
}

/**
 * Checks that values which share memory do not meet: what a step reads is still what its producer left there.
 * @throws Error naming the step and the value that is gone.
 */
export function expectUndisturbed(steps: readonly CompiledStep[]): void {
  const holds = new Map<string, string>();
  const addressOf = ({ buffer, place }: Tap) => `${buffer.label} ${place?.offset}`;
  for (const { label, reads, writes } of steps) {
    for (const tap of reads) {
      const found = holds.get(addressOf(tap));
      if (found !== tap.name) throw new Error(`${label} reads ${tap.name} where ${found} lies`);
    }
    for (const tap of writes) {
      if (reads.some((read) => addressOf(read) === addressOf(tap))) {
        throw new Error(`${label} writes ${tap.name} where it reads`);
      }
      holds.set(addressOf(tap), tap.name);
    }
  }
}
