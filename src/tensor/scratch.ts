import { elementMemory } from "./element-memory.js";

/**
 * Memory for arrays that live no longer than one piece of work. An array of its own for each would be gigabytes that the
 * collector has to find, sweep and give back, which takes longer than the work.
 */

/** Elements of one stretch of memory, unless more are asked for at once. */
const slabElements = 2 ** 17;

/** The first stretch stays for later work, and kernels work where it lies. */
const slabs: Float64Array[] = [];
/** The stretch that is being filled, and how far it is. */
let current = 0;
let used = 0;
/** Pieces of work that are under way, one within the other. */
let depth = 0;

/** `count` zeros, which are gone when the work is done that they are asked for in; without such work, for good. */
export function floats(count: number): Float64Array {
  return depth === 0 ? new Float64Array(count) : room(count).fill(0);
}

/** The same where all of them are written before any is read: whatever they were. */
export function room(count: number): Float64Array {
  if (depth === 0) return new Float64Array(count);
  if (slabs.length === 0) slabs.push(elementMemory().scratch);
  while (current < slabs.length && used + count > slabs[current]!.length) {
    current++;
    used = 0;
  }
  if (current === slabs.length) slabs.push(new Float64Array(Math.max(slabElements, count)));
  const first = used;
  used += count;
  return slabs[current]!.subarray(first, used);
}

/** A copy with the same lifetime. */
export function copied(values: Float64Array): Float64Array {
  if (depth === 0) return values.slice();
  const copy = room(values.length);
  copy.set(values);
  return copy;
}

/** What outlives the work that is under way. */
export function kept<T extends Float64Array | undefined>(values: T): T {
  return (depth > 0 && values ? values.slice() : values) as T;
}

/** Does a piece of work of whose arrays nobody keeps any: `floats` and `copied` give its memory to others afterwards. */
export function withScratch<T>(work: () => T): T {
  const before = { current, used };
  depth++;
  try {
    return work();
  } finally {
    depth--;
    current = before.current;
    used = before.used;
    if (current === 0 && used === 0) forget();
  }
}

/** Does work that is asked for in the midst of other work, and whose arrays outlive it. */
export function withoutScratch<T>(work: () => T): T {
  const before = depth;
  depth = 0;
  try {
    return work();
  } finally {
    depth = before;
  }
}

/** Gives back what an unusually large piece of work took. */
function forget(): void {
  if (slabs.length > 1) slabs.length = 1;
}
