import type { Capture } from "../../capture/capture.js";
import { CaptureObservations, type Viewpoint } from "../../capture/observations.js";
import { Evaluator } from "../../spec/evaluator.js";
import { quantisedProducts } from "../../spec/formats/products.js";
import type { Graph, GraphNode } from "../../spec/graph.js";
import type { ModelConfig } from "../../spec/models/config.js";
import { declaredParameters, decoderGraph } from "../../spec/models/decoder.js";
import type { Precision } from "../../spec/noise.js";
import { roleOf } from "../../spec/site.js";
import type { ParameterReader } from "../../tensor/checkpoint.js";
import { type DType, floatFormat } from "../../tensor/dtype.js";
import { heldAs } from "../../tensor/held-parameters.js";
import { floats } from "../../tensor/scratch.js";
import { drawSample, type Sample, type SampleLimits } from "../bits/sample.js";

/** Units with more unrecorded nodes than this are sampled thinly: every row costs a walk through all of them. */
const deepUnit = 24;
/** Units with more unrecorded nodes than this round in too many places for their bits to be given back. */
const bitsReach = 10;
/** Multiply-adds that checking one unit may cost: its sample is drawn to stay below. */
const unitCost = 2e6;
const attentionCost = 3e7;
const sampleLimits: SampleLimits = { rows: 48, columns: 512 };
const deepLimits: SampleLimits = { rows: 16, columns: 512 };

/** What one investigation of a recording hands on to another. */
export interface SharedRun {
  readonly observations: CaptureObservations;
  readonly precision: Precision;
  readonly evaluator: Evaluator;
  /** Through which rank's records a run of several is seen; the first one's unless said. */
  readonly viewpoint: Viewpoint;
}

/** One recording, one checkpoint, and the spec between them. */
export class RecordedRun {
  readonly graph: Graph;
  readonly observations: CaptureObservations;
  readonly precision: Precision;
  /** The checkpoint's parameters as the runtime holds them. */
  readonly parameters: ParameterReader;
  /** The spec evaluated on the recording's own inputs, with a variance that covers every legal rounding. */
  readonly evaluator: Evaluator;
  readonly #samples = new Map<string, Sample>();
  readonly #suspects = new Map<string, Sample>();
  readonly #interiors = new Map<string, readonly GraphNode[]>();
  #units: readonly GraphNode[] | undefined;

  constructor(
    readonly capture: Capture,
    readonly config: ModelConfig,
    parameters: ParameterReader,
    shared: Partial<SharedRun> = {},
  ) {
    this.observations =
      shared.observations ??
      new CaptureObservations(capture, quantisedProducts(decoderGraph(config), parameters), shared.viewpoint);
    this.graph = shared.evaluator?.graph ?? this.observations.graph;
    this.precision = shared.precision ?? {
      store: storeType(this.observations, this.graph, capture),
      compute: "float32",
    };
    this.parameters = heldAs(declaredParameters(config, parameters), this.precision.store);
    this.evaluator =
      shared.evaluator ??
      new Evaluator({
        graph: this.graph,
        parameters: this.parameters,
        rows: this.observations.rows,
        precision: this.precision,
        observations: this.observations,
        noise: true,
      });
  }

  /** Captured values whose production was recorded, in the spec's order: one unit each. */
  units(): readonly GraphNode[] {
    this.#units ??= [...this.graph.nodes.values()].filter((node) => this.observations.outputRows(node.name).length > 0);
    return this.#units;
  }

  /** The unit's own node and the unrecorded nodes it rests on, nearest first. */
  interior(name: string): readonly GraphNode[] {
    const known = this.#interiors.get(name);
    if (known) return known;
    const found = new Map([[name, this.graph.node(name)]]);
    for (const node of found.values()) {
      for (const input of node.inputs) {
        if (!found.has(input) && !this.observations.has(input)) found.set(input, this.graph.node(input));
      }
    }
    const interior = [...found.values()];
    this.#interiors.set(name, interior);
    return interior;
  }

  isDeep(name: string): boolean {
    return this.#depth(name) > deepUnit;
  }

  /** How many ops a unit holds; what every rank computes alike is one. */
  #depth(name: string): number {
    const interior = this.interior(name);
    if (interior.length <= bitsReach) return interior.length;
    return new Set(interior.map((node) => `${node.layer} ${roleOf(node)}`)).size;
  }

  /** Whether a unit is small enough for a recipe to give its bits. */
  hasBits(name: string): boolean {
    if (this.#depth(name) > bitsReach) return false;
    const interior = this.interior(name);
    // A scale that was read off a cache is not known to the last bit.
    return !interior.some(({ inputs }) =>
      inputs.some((input) => (this.observations.cacheFormat(input)?.error ?? 0) > 0),
    );
  }

  /** Whether a unit costs as much per element as it has operands: norms, rotations, residuals, activations, copies. */
  isPointwise(name: string): boolean {
    return this.interior(name).every(({ op }) => op.kind !== "linear" && op.kind !== "attention");
  }

  /** Recorded elements of a value. */
  elementsOf(name: string): number {
    return this.observations.outputRows(name).length * this.graph.node(name).columns;
  }

  /** The elements of a unit that are looked at closely: drawn, and those that something pointed at. */
  sample(name: string): Sample {
    let sample = this.#samples.get(name);
    if (!sample) {
      const drawn = this.draw(name, this.#limitsFor(name));
      const suspects = this.#suspects.get(name);
      sample = suspects
        ? { rows: union(drawn.rows, suspects.rows), columns: union(drawn.columns, suspects.columns) }
        : drawn;
      this.#samples.set(name, sample);
    }
    return sample;
  }

  /** Has the unit's sample contain these rows and columns. */
  suspect(name: string, rows: Int32Array, columns: Int32Array): void {
    const known = this.#suspects.get(name);
    this.#suspects.set(
      name,
      known ? { rows: union(known.rows, rows), columns: union(known.columns, columns) } : { rows, columns },
    );
    this.#samples.delete(name);
  }

  /** Rows and columns that something pointed at. */
  suspects(name: string): Sample | undefined {
    return this.#suspects.get(name);
  }

  draw(name: string, limits: SampleLimits): Sample {
    return drawSample(this.graph.node(name), this.observations.outputRows(name), this.observations.rows, limits);
  }

  /** Recorded elements of a value, as produced, [rows, columns]. */
  observed(name: string, rows: Int32Array, columns: Int32Array): Float64Array {
    if (columns.length === this.graph.node(name).columns && isWhole(columns)) {
      return this.observations.block(name, rows)!;
    }
    const out = floats(rows.length * columns.length);
    const row = floats(this.graph.node(name).columns);
    for (let r = 0; r < rows.length; r++) {
      this.observations.blockInto(row, name, rows.subarray(r, r + 1));
      for (let c = 0; c < columns.length; c++) out[r * columns.length + c] = row[columns[c]!]!;
    }
    return out;
  }

  /** Rows and columns of a unit's sample: fewer where an element costs more. */
  #limitsFor(name: string): SampleLimits {
    if (this.isDeep(name)) return deepLimits;
    const { op, inputs, columns } = this.graph.node(name);
    const { rows, columns: most } = sampleLimits;
    const recorded = this.observations.outputRows(name);
    if (op.kind === "attention") {
      const table = this.observations.rows;
      let keys = 0;
      for (const row of recorded) keys += table.keyCount(row);
      const perRow = (2 * columns * keys) / Math.max(1, recorded.length);
      return { rows: Math.max(4, Math.min(rows, Math.floor(attentionCost / perRow))), columns };
    }
    if (op.kind !== "linear") return sampleLimits;
    const elements = Math.max(1024, unitCost / this.graph.node(inputs[0]!).columns);
    const fewer = Math.min(rows, recorded.length || 1, Math.max(16, Math.floor(elements / most)));
    return { rows: fewer, columns: Math.min(most, Math.floor(elements / fewer)) };
  }
}

function isWhole(columns: Int32Array): boolean {
  return columns.every((column, c) => column === c);
}

function union(a: Int32Array, b: Int32Array): Int32Array {
  return Int32Array.from(new Set([...a, ...b])).sort();
}

/** The runtime's 16- or 32-bit type: what most recorded values have. */
function storeType(observations: CaptureObservations, graph: Graph, capture: Capture): DType {
  const counts = new Map<DType, number>();
  for (const { name, op } of graph.nodes.values()) {
    const dtype = observations.dtype(name);
    if (dtype && floatFormat(dtype) && op.kind !== "append") counts.set(dtype, (counts.get(dtype) ?? 0) + 1);
  }
  const [most] = [...counts].sort((a, b) => b[1] - a[1]);
  if (most) return most[0];
  const declared = capture.manifest.runtime?.dtype;
  return declared === "float16" || declared === "float32" ? declared : "bfloat16";
}
