import type { Graph } from "../spec/graph.js";
import type { PlacedDense } from "./placed-dense.js";
import type { PlacedPaged } from "./placed-paged.js";

/** The records of a capture by the value they hold, the step and who addressed them. */
export class PlacedRecords {
  readonly #dense = new Map<string, PlacedDense[]>();
  readonly #paged = new Map<string, PlacedPaged[]>();
  readonly #outputs = new Map<string, PlacedDense[]>();
  readonly #inputs = new Map<string, PlacedDense[][]>();
  readonly #written = new Map<string, PlacedPaged[]>();
  readonly #read = new Map<string, PlacedPaged[]>();
  /** What was chosen for a consumer, by value, consumer and step; null where there is none. */
  readonly #chosen = new Map<string, Map<string, (PlacedDense | null)[]>>();

  addDense(placed: PlacedDense): void {
    const { record, stepIndex } = placed;
    listOf(this.#dense, record.name).push(placed);
    if (record.role === "output") {
      listOf(this.#outputs, record.name)[stepIndex] ??= placed;
      return;
    }
    const steps = listOf(this.#inputs, record.name);
    steps[stepIndex] ??= [];
    steps[stepIndex].push(placed);
  }

  addPaged(placed: PlacedPaged): void {
    const { record, stepIndex } = placed;
    listOf(this.#paged, record.name).push(placed);
    listOf(record.role === "output" ? this.#written : this.#read, record.name)[stepIndex] ??= placed;
  }

  has(name: string): boolean {
    return this.#dense.has(name) || this.#paged.has(name);
  }

  names(): string[] {
    return [...this.#dense.keys(), ...this.#paged.keys()];
  }

  dense(name: string): readonly PlacedDense[] {
    return this.#dense.get(name) ?? [];
  }

  paged(name: string): readonly PlacedPaged[] {
    return this.#paged.get(name) ?? [];
  }

  /** The record of a value as its producer addressed it. */
  output(name: string, stepIndex: number): PlacedDense | undefined {
    return this.#outputs.get(name)?.[stepIndex];
  }

  pagedAt(name: string, stepIndex: number, role: "input" | "output"): PlacedPaged | undefined {
    return (role === "output" ? this.#written : this.#read).get(name)?.[stepIndex];
  }

  /** The record of `name` as `consumer` addressed it: by its own name, or a record that names no other consumer. */
  input(name: string, stepIndex: number, consumer: string, graph: Graph): PlacedDense | undefined {
    const inputs = this.#inputs.get(name)?.[stepIndex];
    if (!inputs) return undefined;
    let consumers = this.#chosen.get(name);
    if (!consumers) {
      consumers = new Map();
      this.#chosen.set(name, consumers);
    }
    const steps = listOf(consumers, consumer);
    let chosen = steps[stepIndex];
    if (chosen === undefined) {
      chosen = choose(inputs, name, consumer, graph) ?? null;
      steps[stepIndex] = chosen;
    }
    return chosen ?? undefined;
  }
}

function choose(inputs: readonly PlacedDense[], name: string, consumer: string, graph: Graph): PlacedDense | undefined {
  const isFor = (by: string | undefined, reader: string) =>
    by !== undefined && (by === reader || reader.endsWith(`.${by}`) || by === graph.find(reader)?.op.kind);
  const own = inputs.find(({ record }) => isFor(record.by, consumer));
  if (own) return own;
  const others = graph.consumers(name).filter((reader) => reader !== consumer);
  return inputs.find(({ record }) => !others.some((reader) => isFor(record.by, reader)));
}

function listOf<T>(map: Map<string, T[]>, key: string): T[] {
  let list = map.get(key);
  if (!list) {
    list = [];
    map.set(key, list);
  }
  return list;
}
