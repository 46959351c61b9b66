import { CaptureObservations } from "../capture/observations.js";
import { TensorReader } from "../capture/tensor-reader.js";
import { RecipeBook } from "../diagnose/bits/recipe-book.js";
import { drawSample, type Sample } from "../diagnose/bits/sample.js";
import { Investigation } from "../diagnose/check/investigation.js";
import type { DumpTensor } from "../importers/dump.js";
import { namedCapture } from "../importers/named-capture.js";
import type { Placement } from "../importers/names-file.js";
import { Evaluator } from "../spec/evaluator.js";
import type { Graph, GraphNode } from "../spec/graph.js";
import type { ModelConfig } from "../spec/models/config.js";
import { declaredParameters } from "../spec/models/decoder.js";
import type { Precision } from "../spec/noise.js";
import { indices } from "../spec/op.js";
import type { ParameterReader } from "../tensor/checkpoint.js";
import { heldAs } from "../tensor/held-parameters.js";
import type { TensorShapes } from "./tensor-shapes.js";

const sampled = { rows: 8, columns: 64 };
/** Multiply-adds that one value may cost before it is left to its name. */
const maxCost = 2e9;
/** Relative distance, squared, from which a tensor is not worth a check by recipes. */
const farAway = 0.25;
const maxChecked = 3;

/** A way in which a tensor may hold a value, and how far its numbers are from what the spec gives. */
export interface Candidate {
  readonly tensor: DumpTensor;
  readonly placement: Placement;
  readonly distance: number;
}

/** Which tensor has the bits of a value of the spec, computed from what was placed so far. */
export class ContentSearch {
  readonly #reader = new TensorReader();
  readonly #placed: Placement[];
  #book: RecipeBook;
  #current: Investigation | undefined;

  constructor(
    readonly shapes: TensorShapes,
    readonly graph: Graph,
    readonly config: ModelConfig,
    readonly parameters: ParameterReader,
    readonly precision: Precision,
    placed: readonly Placement[],
  ) {
    this.#placed = [...placed];
    this.#book = new RecipeBook(precision.store);
    this.#current = this.#investigate(this.#placed);
  }

  /** What is placed from now on. */
  add(placement: Placement): void {
    this.#placed.push(placement);
    this.#current = this.#investigate(this.#placed);
  }

  /** The checker's word on a value that is placed: whether its record follows from the others. */
  follows(name: string): boolean {
    return this.#current !== undefined && follows(this.#current, name);
  }

  /** Candidates whose numbers are near the value's, nearest first; undefined where computing it costs too much. */
  near(node: GraphNode, ways: readonly { tensor: DumpTensor; placement: Placement }[]): Candidate[] | undefined {
    const samples = new Map<string, { sample: Sample; expected: Float64Array } | undefined>();
    const found: Candidate[] = [];
    for (const { tensor, placement } of ways) {
      const placed = this.shapes.place(tensor, placement, node);
      if (!placed) continue;
      // A row per token, or one per sequence.
      const key = `${tensor.step} ${placed.rows.length}`;
      if (!samples.has(key)) samples.set(key, this.#expected(node, placed.rows));
      const known = samples.get(key);
      if (!known) return undefined;
      const { sample, expected } = known;
      const row = new Float64Array(node.columns);
      let apart = 0;
      let size = 0;
      sample.rows.forEach((at, r) => {
        this.#reader.row(
          tensor.source,
          tensor.dtype,
          placed.axes.startOf(placed.recordRow(at)),
          placed.axes.pieces,
          row,
          0,
        );
        const own = expected.subarray(r * sample.columns.length, (r + 1) * sample.columns.length);
        const seen = Float64Array.from(sample.columns, (column) => row[column]!);
        // Experts are chosen in any order.
        if (node.op.kind === "choose-experts") for (const list of [own, seen]) list.sort();
        own.forEach((value, c) => {
          if (!Number.isFinite(value)) return;
          apart += (seen[c]! - value) ** 2;
          size += value ** 2;
        });
      });
      const distance = size > 0 ? apart / size : apart > 0 ? Infinity : 0;
      if (distance < farAway) found.push({ tensor, placement, distance });
    }
    const likeness = ({ tensor }: Candidate) => commonEnd(tensor.name, node.name);
    return found.sort((a, b) => a.distance - b.distance || likeness(b) - likeness(a));
  }

  /** The candidates whose bits the checker takes for the value's: by its recipes, else by its noise. */
  confirmed(node: GraphNode, near: readonly Candidate[]): Candidate[] {
    return near.slice(0, maxChecked).filter(({ placement }) => {
      const trial = this.#investigate([...this.#placed, placement]);
      return trial !== undefined && follows(trial, node.name);
    });
  }

  /** The same with one more value placed, for a look at what would follow. */
  supposing(placement: Placement): ContentSearch {
    const { shapes, graph, config, parameters, precision } = this;
    return new ContentSearch(shapes, graph, config, parameters, precision, [...this.#placed, placement]);
  }

  /** Whether a value was placed. */
  has(name: string): boolean {
    return this.#placed.some(({ value, role }) => value === name && role !== "input");
  }

  #investigate(values: readonly Placement[]): Investigation | undefined {
    if (values.length === 0) return undefined;
    // What a candidate that was none settled, holds for nobody.
    const book = new RecipeBook(this.precision.store);
    for (const [role, settled] of this.#book.settled) if (settled.score.matched) book.adopt(role, settled);
    this.#book = book;
    const { dump, capture } = this.shapes;
    const trial = namedCapture(
      dump,
      { values: [...values] },
      { steps: capture.steps, paddings: capture.paddings, isBatch: false },
    );
    const observations = new CaptureObservations(trial, this.graph);
    return new Investigation(trial, this.config, this.parameters, { precision: this.precision, book, observations });
  }

  #expected(node: GraphNode, rows: Int32Array): { sample: Sample; expected: Float64Array } | undefined {
    const sample = drawSample(node, rows, this.shapes.table, sampled);
    if (this.#costOf(node) > maxCost) return undefined;
    const { columns } = sample;
    const evaluator = new Evaluator({
      graph: this.#current?.graph ?? this.graph,
      parameters: heldAs(declaredParameters(this.config, this.parameters), this.precision.store),
      rows: this.shapes.table,
      precision: this.precision,
      ...(this.#current && { observations: this.#current.observations }),
    });
    return { sample, expected: evaluator.evaluate(node.name, sample.rows, columns ?? indices(node.columns)).value };
  }

  /** Multiply-adds of what is not placed below a value; attention asks for every row. */
  #costOf(node: GraphNode): number {
    const seen = new Map([[node.name, node]]);
    let cost = 0;
    let rows = sampled.rows;
    for (const each of seen.values()) {
      const [input] = each.inputs;
      if (each.op.kind === "attention") rows = this.shapes.table.count;
      if (each.op.kind === "linear" || each.op.kind === "expert-linear")
        cost += (each === node ? sampled.columns : each.columns) * (input ? this.graph.node(input).columns : 0) * rows;
      for (const name of each.inputs)
        if (!seen.has(name) && !this.#current?.observations.has(name)) seen.set(name, this.graph.node(name));
    }
    return cost;
  }
}

function follows(investigation: Investigation, name: string): boolean {
  return investigation.observations.outputRows(name).length > 0 && investigation.check(name).excess <= 1;
}

/** Letters that two names have in common at their ends: of tensors with the same bits the one named alike is taken. */
function commonEnd(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a.at(-1 - length) === b.at(-1 - length)) length++;
  return length;
}
