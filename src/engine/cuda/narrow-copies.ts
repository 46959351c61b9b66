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
 * Values as tensor cores read them: rounded once, by whoever makes them or by a step before the first product, and read by
 * all products of the value. Two buffers take turns, so that a product can leave the next one's input.
 */
export class NarrowCopies {
  readonly #buffers: readonly [CudaBuffer, CudaBuffer];
  readonly #held = new WeakMap<Places, NarrowCopy[]>();
  /** Values whose copy is all that there is of them. */
  readonly #only = new WeakMap<Places, Set<string>>();

  constructor(
    cuda: Cuda,
    readonly memory: PathMemory,
  ) {
    const bytes = memory.maxRows * widestOperand(memory.graph) * 2;
    this.#buffers = [cuda.buffer("narrow 0", bytes), cuda.buffer("narrow 1", bytes)];
  }

  /**
   * The copy of a value that an earlier step of the program has left.
   * @throws Error when another value took its place, and it lies nowhere else.
   */
  find(places: Places, name: string, dtype: NarrowType): NarrowCopy | undefined {
    const found = this.#held.get(places.program)?.find((copy) => copy.name === name && copy.dtype === dtype);
    if (!found && this.#only.get(places.program)?.has(name)) throw new Error(`no copy of ${name} is left`);
    return found;
  }

  /**
   * Where a step leaves a copy of a value; a copy that the same step may be reading stays.
   * @param only whether it leaves nothing else of the value.
   */
  leave(places: Places, name: string, dtype: NarrowType, only = false): NarrowCopy {
    const held = this.#held.get(places.program) ?? [];
    // The copy made last is the only one that anybody still reads.
    const latest = held.at(-1);
    const buffer = this.#buffers.find((candidate) => candidate !== latest?.buffer)!;
    const copy = { name, dtype, buffer };
    this.#held.set(places.program, latest ? [latest, copy] : [copy]);
    if (only) this.#only.set(places.program, (this.#only.get(places.program) ?? new Set()).add(name));
    return copy;
  }

  /** The type in which products of the weights' own type read a value, where some of them do. */
  typeFor(name: string): NarrowType | undefined {
    return this.#products(name)
      .map(({ matrix }) => narrowTypeOf(matrix.dtype))
      .at(0);
  }

  /** Whether nobody reads a value but products in one type whose weights lie together, which follow one another. */
  isOnlyOperand(name: string): boolean {
    const products = this.#products(name);
    const [first] = products;
    const together = products.every(({ slot, matrix }) => slot === first?.slot && narrowTypeOf(matrix.dtype));
    return products.length > 0 && together && products.length === readersOf(this.memory.graph, name).length;
  }

  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }

  /** Weights of the products that read a value. */
  #products(name: string) {
    const { graph, weights } = this.memory;
    const ops = readersOf(graph, name).map((reader) => graph.node(reader).op);
    return ops
      .filter(({ kind }) => kind === "linear")
      .map(({ attributes }) => weights.matrix((attributes as unknown as LinearAttributes).weight));
  }
}

function widestOperand(graph: Graph): number {
  const operands = [...graph.nodes.values()].filter(({ op }) => op.kind === "linear");
  return Math.max(0, ...operands.map(({ inputs }) => graph.node(inputs[0]!).columns));
}
