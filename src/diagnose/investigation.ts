import type { Capture } from "../capture/capture.js";
import { CaptureObservations } from "../capture/observations.js";
import { Evaluator } from "../spec/evaluator.js";
import type { Graph, GraphNode } from "../spec/graph.js";
import type { ModelConfig } from "../spec/models/config.js";
import { decoderGraph } from "../spec/models/decoder.js";
import type { Precision } from "../spec/noise.js";
import type { ParameterReader } from "../tensor/checkpoint.js";
import type { DType } from "../tensor/dtype.js";
import { floatFormat } from "../tensor/dtype.js";
import { excess, type UnitClass, unitClass } from "./limits.js";
import { drawSample, type Sample, type SampleLimits } from "./sample.js";
import { type Comparison, compareBlock, type Statistics, statisticsOf } from "./statistics.js";

/** A unit's sample, compared: the output of one captured value from its nearest captured inputs. */
export interface UnitCheck {
  readonly node: GraphNode;
  readonly comparison: Comparison;
  readonly statistics: Statistics;
  /** Above 1 the unit fails. */
  readonly excess: number;
}

const sampleLimits: SampleLimits = { rows: 48, columns: 512 };
/** Units with more unrecorded nodes than this are sampled thinly: every row costs a walk through all of them. */
const deepUnit = 24;
const deepLimits: SampleLimits = { rows: 16, columns: 512 };

/** One recording, one checkpoint, and the spec between them. */
export class Investigation {
  readonly graph: Graph;
  readonly observations: CaptureObservations;
  readonly precision: Precision;
  /** The spec evaluated on the recording's own inputs. */
  readonly evaluator: Evaluator;
  readonly #samples = new Map<string, Sample>();
  readonly #interiors = new Map<string, readonly GraphNode[]>();

  constructor(
    readonly capture: Capture,
    readonly config: ModelConfig,
    readonly parameters: ParameterReader,
    shared: { observations?: CaptureObservations; precision?: Precision; evaluator?: Evaluator } = {},
  ) {
    this.observations = shared.observations ?? new CaptureObservations(capture, decoderGraph(config));
    this.graph = shared.evaluator?.graph ?? this.observations.graph;
    this.precision = shared.precision ?? {
      store: storeType(this.observations, this.graph, capture),
      compute: "float32",
    };
    this.evaluator =
      shared.evaluator ??
      new Evaluator({
        graph: this.graph,
        parameters,
        rows: this.observations.rows,
        precision: this.precision,
        observations: this.observations,
        noise: true,
      });
  }

  /** The same investigation under another compute precision. */
  withCompute(compute: Precision["compute"]): Investigation {
    return new Investigation(this.capture, this.config, this.parameters, {
      observations: this.observations,
      precision: { ...this.precision, compute },
    });
  }

  /** The same investigation with a rewritten spec in place of the spec. */
  withSpec(evaluator: Evaluator): Investigation {
    const { capture, config, parameters, observations, precision } = this;
    return new Investigation(capture, config, parameters, { observations, precision, evaluator });
  }

  /** Captured values whose production was recorded, in the spec's order: one unit each. */
  units(): GraphNode[] {
    return [...this.graph.nodes.values()].filter((node) => this.observations.outputRows(node.name).length > 0);
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

  unitClass(name: string): UnitClass {
    return unitClass(this.interior(name).map((node) => node.op.kind));
  }

  isDeep(name: string): boolean {
    return this.interior(name).length > deepUnit;
  }

  /** The elements of a unit that are checked. */
  sample(name: string): Sample {
    let sample = this.#samples.get(name);
    if (!sample) {
      const node = this.graph.node(name);
      const rows = this.observations.outputRows(name);
      sample = drawSample(node, rows, this.observations.rows, this.isDeep(name) ? deepLimits : sampleLimits);
      this.#samples.set(name, sample);
    }
    return sample;
  }

  /** Recorded elements of a value, as produced, [rows, columns]. */
  observed(name: string, rows: Int32Array, columns: Int32Array): Float64Array {
    const out = new Float64Array(rows.length * columns.length);
    rows.forEach((row, r) => {
      const value = this.observations.output(name, row)!.value;
      for (let c = 0; c < columns.length; c++) out[r * columns.length + c] = value[columns[c]!]!;
    });
    return out;
  }

  /** Checks a unit under the spec, or under `evaluator`'s rewrite of it. */
  check(name: string, evaluator: Evaluator = this.evaluator, sample: Sample = this.sample(name)): UnitCheck {
    const { rows, columns } = sample;
    const block = evaluator.evaluate(name, rows, columns);
    const dtype = this.observations.dtype(name)!;
    const comparison = compareBlock(block, this.observed(name, rows, columns), dtype, rows, columns);
    const statistics = statisticsOf(comparison);
    return {
      node: this.graph.node(name),
      comparison,
      statistics,
      excess: excess(statistics, this.unitClass(name)),
    };
  }
}

/** The runtime's 16- or 32-bit type: what most recorded values have. */
function storeType(observations: CaptureObservations, graph: Graph, capture: Capture): DType {
  const counts = new Map<DType, number>();
  for (const name of graph.nodes.keys()) {
    const dtype = observations.dtype(name);
    if (dtype && floatFormat(dtype) && !name.endsWith("_cache")) counts.set(dtype, (counts.get(dtype) ?? 0) + 1);
  }
  const [most] = [...counts].sort((a, b) => b[1] - a[1]);
  if (most) return most[0];
  const declared = capture.manifest.runtime?.dtype;
  return declared === "float16" || declared === "float32" ? declared : "bfloat16";
}
