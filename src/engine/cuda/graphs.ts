import type { BatchShape } from "../device/batch-buffer.js";
import type { CudaLaunch } from "./launch.js";
import type { Stream } from "./stream.js";

/** Launches from which on a graph of them is worth its making. */
const fewLaunches = 8;
/** Graphs that are kept of one list: batches of other shapes take the place of the oldest. */
const mostShapes = 8;

/** Graphs of the launches of one path, which start with one call instead of one each. */
export class Graphs {
  /** Of a list, by the numbers that decide its grids; undefined while a shape was seen only once. */
  readonly #graphs = new Map<readonly CudaLaunch[], Map<string, number | undefined>>();

  constructor(readonly stream: Stream) {}

  /** Puts launches into the stream, `times` times. */
  run(launches: readonly CudaLaunch[], shape: BatchShape, times: number): void {
    const graph = launches.length < fewLaunches ? undefined : this.#graph(launches, shape, times);
    for (let time = 0; time < times; time++) {
      if (graph === undefined) runEach(this.stream, launches, shape);
      else this.stream.driver.call("cuGraphLaunch", graph, this.stream.handle);
    }
  }

  destroy(): void {
    for (const shapes of this.#graphs.values()) for (const graph of shapes.values()) this.#drop(graph);
    this.#graphs.clear();
  }

  /** A shape that comes once is not worth a graph. */
  #graph(launches: readonly CudaLaunch[], shape: BatchShape, times: number): number | undefined {
    const shapes = this.#graphs.get(launches) ?? new Map<string, number | undefined>();
    this.#graphs.set(launches, shapes);
    const key = `${shape.rows} ${shape.sequences} ${shape.splitCount} ${shape.tileCount}`;
    const seen = shapes.has(key);
    let graph = shapes.get(key);
    if (graph === undefined && (seen || times > 1)) {
      graph = this.stream.capture(() => runEach(this.stream, launches, shape));
    }
    shapes.delete(key);
    shapes.set(key, graph);
    const [oldest] = shapes.keys();
    if (shapes.size > mostShapes) {
      this.#drop(shapes.get(oldest!));
      shapes.delete(oldest!);
    }
    return graph;
  }

  #drop(graph: number | undefined): void {
    if (graph !== undefined) this.stream.driver.call("cuGraphExecDestroy", graph);
  }
}

/**
 * Puts launches into the stream, one after the other. The first waits for all that is there already, as the first of a graph
 * does: kernels may read what earlier lists have written, the cache and the batch, before they wait for each other.
 */
export function runEach(stream: Stream, launches: readonly CudaLaunch[], shape: BatchShape): void {
  for (const [i, { kernel, grid }] of launches.entries()) stream.launch(kernel, grid(shape), i > 0);
}
