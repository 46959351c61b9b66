import type { Graph } from "../../spec/graph.js";
import type { LinearAttributes } from "../../spec/ops/linear.js";
import type { PathMemory } from "../device/path-memory.js";
import type { Places } from "../device/places.js";
import { readersOf } from "../program/dataflow.js";
import type { Cuda } from "./cuda.js";
import type { CudaBuffer } from "./memory.js";
import { type NarrowType, narrowTypes } from "./tensor-blocks.js";

export function narrowTypeOf(dtype: string): NarrowType | undefined {
  return narrowTypes.find((type) => type === dtype);
}

/** A value rounded to 16 bits. */
export interface NarrowCopy {
  readonly name: string;
  readonly dtype: NarrowType;
  readonly buffer: CudaBuffer;
}

/**
 * Values as tensor products read them: rounded once, by whoever makes them or by a step before the first product, and read
 * by all products of the value. Two buffers take turns, so that a product can leave the next one's input.
 */
export class NarrowCopies {
  readonly #buffers: readonly [CudaBuffer, CudaBuffer];
  readonly #held = new WeakMap<Places, NarrowCopy[]>();

  constructor(
    cuda: Cuda,
    readonly memory: PathMemory,
  ) {
    const bytes = memory.maxRows * widestOperand(memory.graph) * 2;
    this.#buffers = [cuda.buffer("narrow 0", bytes), cuda.buffer("narrow 1", bytes)];
  }

  /** The copy of a value that an earlier step of the program has left. */
  find(places: Places, name: string, dtype: NarrowType): NarrowCopy | undefined {
    return this.#held.get(places)?.find((copy) => copy.name === name && copy.dtype === dtype);
  }

  /** Where a step leaves a copy of a value; a copy that the same step may be reading stays. */
  leave(places: Places, name: string, dtype: NarrowType): NarrowCopy {
    const held = this.#held.get(places) ?? [];
    // The copy made last is the only one that anybody still reads.
    const latest = held.at(-1);
    const buffer = this.#buffers.find((candidate) => candidate !== latest?.buffer)!;
    const copy = { name, dtype, buffer };
    this.#held.set(places, latest ? [latest, copy] : [copy]);
    return copy;
  }

  /** The type in which products of the weights' own type read a value, where some of them do. */
  typeFor(name: string): NarrowType | undefined {
    const { graph, weights } = this.memory;
    for (const reader of readersOf(graph, name)) {
      const { op } = graph.node(reader);
      if (op.kind !== "linear") continue;
      return narrowTypeOf(weights.matrix((op.attributes as unknown as LinearAttributes).weight).matrix.dtype);
    }
    return undefined;
  }

  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }
}

function widestOperand(graph: Graph): number {
  const operands = [...graph.nodes.values()].filter(({ op }) => op.kind === "linear");
  return Math.max(0, ...operands.map(({ inputs }) => graph.node(inputs[0]!).columns));
}
