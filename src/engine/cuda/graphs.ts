import type { BatchShape } from "../device/batch-buffer.js";
import type { CudaLaunch, LibraryPlan } from "./launch.js";
import type { Stream } from "./stream.js";

/** Launches from which on a graph of them is worth its making. */
const fewLaunches = 8;
/** Graphs that are kept of one list: batches of other shapes take the place of the oldest. */
const mostShapes = 8;

/** A list's graphs by the numbers that decide its grids; undefined while a shape was seen only once. */
interface ListGraphs {
  readonly plans: readonly LibraryPlan[];
  readonly shapes: Map<string, number | undefined>;
}

/** Graphs of the launches of one path, which start with one call instead of one each. */
export class Graphs {
  readonly #lists = new Map<readonly CudaLaunch[], ListGraphs>();

  constructor(readonly stream: Stream) {}

  /** Puts launches into the stream, `times` times. */
  run(launches: readonly CudaLaunch[], shape: BatchShape, times: number): void {
    const list = this.#list(launches);
    let graph: number | undefined;
    for (let time = 0; time < times; time++) {
      for (const plan of list.plans) plan.prepare();
      graph ??= launches.length < fewLaunches ? undefined : this.#graph(launches, list, shape, times - time);
      if (graph === undefined) startEach(this.stream, launches, shape);
      else this.stream.driver.call("cuGraphLaunch", graph, this.stream.handle);
      advance(launches);
    }
  }

  destroy(): void {
    for (const { shapes } of this.#lists.values()) for (const graph of shapes.values()) this.#drop(graph);
    this.#lists.clear();
  }

  #list(launches: readonly CudaLaunch[]): ListGraphs {
    const known = this.#lists.get(launches);
    if (known) return known;
    const list = { plans: plansOf(launches), shapes: new Map<string, number | undefined>() };
    this.#lists.set(launches, list);
    return list;
  }

  /** A shape that comes once is not worth a graph. */
  #graph(
    launches: readonly CudaLaunch[],
    { plans, shapes }: ListGraphs,
    shape: BatchShape,
    times: number,
  ): number | undefined {
    if (plans.some(({ replayable }) => !replayable)) return undefined;
    const key = `${shape.rows} ${shape.sequences} ${shape.splitCount} ${shape.tileCount}`;
    const seen = shapes.has(key);
    let graph = shapes.get(key);
    // A library loads its kernels when they first run, which a capture would not survive.
    if (graph === undefined && (seen || (times > 1 && plans.length === 0))) {
      graph = this.stream.capture(() => startEach(this.stream, launches, shape));
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

/** Puts launches into the stream, one after the other, with what must be planned before. */
export function runEach(stream: Stream, launches: readonly CudaLaunch[], shape: BatchShape): void {
  for (const plan of plansOf(launches)) plan.prepare();
  startEach(stream, launches, shape);
  advance(launches);
}

/**
 * The first waits for all that is there already, as the first of a graph does: kernels may read what earlier lists have
 * written, the cache and the batch, before they wait for each other.
 */
function startEach(stream: Stream, launches: readonly CudaLaunch[], shape: BatchShape): void {
  for (const [i, launch] of launches.entries()) {
    if ("call" in launch) launch.call(shape);
    else stream.launch(launch.kernel, launch.grid(shape), i > 0);
  }
}

/** What the device does to the batch the host does to what it knows of it. */
function advance(launches: readonly CudaLaunch[]): void {
  for (const launch of launches) if ("advances" in launch) launch.advances?.advance();
}

function plansOf(launches: readonly CudaLaunch[]): LibraryPlan[] {
  return [...new Set(launches.flatMap((launch) => ("plan" in launch ? [launch.plan] : [])))];
}
