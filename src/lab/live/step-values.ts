import { originOf } from "../../engine/program/dataflow.js";
import type { Batch } from "../../engine/run/batch.js";
import type { CapturedDense, CapturedValue } from "../../engine/run/captured-value.js";
import type { Recorder } from "../../engine/serve/generation.js";
import type { Graph } from "../../spec/graph.js";
import { byteWidth, elementReader } from "../../tensor/dtype.js";

/** The dense values of one step as a running path makes them, kept in memory: [rows, columns] by name. */
export class StepValues implements Recorder {
  readonly #values = new Map<string, Float64Array>();
  batch: Batch | undefined;

  /** @param graph what the path runs: a value that is another one's second name has that one's elements. */
  constructor(readonly graph: Graph) {}

  wants(): boolean {
    return true;
  }

  begin(batch: Batch): void {
    this.batch = batch;
  }

  value({ name, role, view }: CapturedValue): void {
    if (role === "output" && view.kind === "dense") this.#values.set(name, elements(view));
  }

  end(): void {}

  /** Elements of a value; undefined where the path keeps it to itself. */
  get(name: string): Float64Array | undefined {
    const own = this.#values.get(name);
    return own ?? (this.graph.find(name) && this.#values.get(originOf(this.graph, name)));
  }
}

function elements({ bytes, dtype, shape, strides }: CapturedDense): Float64Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const element = elementReader(dtype);
  const width = byteWidth(dtype);
  const out = new Float64Array(shape.reduce((product, n) => product * n, 1));
  const index = new Array<number>(shape.length).fill(0);
  for (let i = 0; i < out.length; i++) {
    out[i] = element(view, index.reduce((at, n, k) => at + n * strides[k]!, 0) * width);
    for (let k = shape.length - 1; k >= 0; k--) {
      if (++index[k]! < shape[k]!) break;
      index[k] = 0;
    }
  }
  return out;
}
