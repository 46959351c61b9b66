import { elementsModule } from "./elements-module.js";
import { KernelMemory } from "./kernel-memory.js";

interface ElementKernels {
  readonly widenBfloat16: (from: number, to: number, count: number) => void;
  readonly round: (
    at: number,
    count: number,
    least: number,
    most: number,
    up: number,
    max: number,
    beyond: number,
  ) => void;
  readonly tally: (
    value: number,
    expected: number,
    observed: number,
    count: number,
    least: number,
    down: number,
    first: number,
    others: number,
    sums: number,
  ) => number;
  readonly sumSquares: (x: number, count: number, sum: number) => number;
  readonly dots: (q: number, count: number, key: number, stride: number, keys: number, out: number) => void;
  readonly addWeighted: (
    weights: number,
    rows: number,
    value: number,
    stride: number,
    count: number,
    out: number,
  ) => void;
  readonly residuals: (
    y: number,
    columns: number,
    width: number,
    signs: number,
    biases: number,
    expected: number,
    least: number,
    down: number,
    floor: number,
    z: number,
  ) => void;
}

/** Numbers of an array that kernels are given at a time. */
export const mostPlaced = 4096;
const slotBytes = mostPlaced * 8;
/** Arrays that a kernel may be given at once. */
const slots = 5;
/** Numbers of the memory that are scratch. */
export const scratchElements = 2 ** 21;

/** Memory whose elements kernels work on where they lie: most arrays that live for one piece of work. */
export class ElementMemory {
  readonly #memory: KernelMemory<ElementKernels>;
  readonly #bytes: Uint8Array;
  readonly #words: Uint16Array;
  readonly #slots: readonly Float64Array[];
  readonly kernels: ElementKernels;
  readonly scratch: Float64Array;

  /** @throws Error where there is no WebAssembly with SIMD. */
  constructor() {
    this.#memory = new KernelMemory(elementsModule, "comparisons of elements");
    this.kernels = this.#memory.kernels;
    this.scratch = this.#memory.floats(slots * mostPlaced, scratchElements);
    this.#bytes = new Uint8Array(this.#memory.buffer, 0, slots * slotBytes);
    this.#words = new Uint16Array(this.#bytes.buffer, 0, this.#bytes.length / 2);
    this.#slots = Array.from({ length: slots }, (_, i) => this.#memory.floats(i * mostPlaced, mostPlaced));
  }

  /** Whether kernels can work on an array where it is. */
  holds(values: Float64Array): boolean {
    return values.buffer === this.scratch.buffer;
  }

  /** A slot's numbers. */
  slot(slot: number): Float64Array {
    return this.#slots[slot]!;
  }

  slotAddress(slot: number): number {
    return slot * slotBytes;
  }

  /** Where kernels find elements: where they are, or a copy of them in a slot. At most `mostPlaced` at a time. */
  place(values: Float64Array, first: number, count: number, slot: number): number {
    if (this.holds(values)) return values.byteOffset + first * 8;
    this.#slots[slot]!.set(values.subarray(first, first + count));
    return slot * slotBytes;
  }

  /** Where kernels find a copy of 16-bit words. */
  placeWords(words: Uint16Array, first: number, count: number, slot: number): number {
    this.#words.set(words.subarray(first, first + count), (slot * slotBytes) / 2);
    return slot * slotBytes;
  }

  /** Where kernels find a copy of bytes: at most eight for each element of a slot. */
  placeBytes(bytes: Uint8Array | Int8Array, slot: number): number {
    this.#bytes.set(bytes, slot * slotBytes);
    return slot * slotBytes;
  }
}

let made: ElementMemory | undefined;

/** This thread's. @throws Error where there is no WebAssembly with SIMD. */
export function elementMemory(): ElementMemory {
  made ??= new ElementMemory();
  return made;
}

/** The same, where there was work that needs it. */
export function elementMemoryIfMade(): ElementMemory | undefined {
  return made;
}
