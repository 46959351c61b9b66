import type { Capture } from "../capture/capture.js";
import { CaptureObservations } from "../capture/observations.js";
import { Evaluator } from "../spec/evaluator.js";
import type { Graph, GraphNode } from "../spec/graph.js";
import type { ModelConfig } from "../spec/models/config.js";
import { decoderGraph } from "../spec/models/decoder.js";
import type { Precision } from "../spec/noise.js";
import { roleOf, type UnitRecipe } from "../spec/recipe.js";
import type { ParameterReader } from "../tensor/checkpoint.js";
import type { DType } from "../tensor/dtype.js";
import { floatFormat } from "../tensor/dtype.js";
import { heldAs } from "../tensor/held-parameters.js";
import { type BitMatch, type Included, matchBits } from "./check/bits.js";
import { excess, surpriseLimit } from "./check/limits.js";
import { RecipeBook } from "./check/recipe-book.js";
import type { RecipeSearch } from "./check/recipe-search.js";
import { drawSample, type Sample, type SampleLimits } from "./check/sample.js";
import { type Comparison, compareBlock, type Statistics, statisticsOf } from "./check/statistics.js";

/** A unit's sample, compared: the output of one captured value from its nearest captured inputs. */
export interface UnitCheck {
  readonly node: GraphNode;
  /** The recipe that comes nearest to the recorded bits; undefined where bits decide nothing. */
  readonly recipe: UnitRecipe | undefined;
  /** How near. */
  readonly bits: BitMatch | undefined;
  /** Whether that recipe gives the recorded bits, up to the order of summation. */
  readonly matched: boolean;
  readonly comparison: Comparison;
  readonly statistics: Statistics;
  /** Above 1 the unit fails. */
  readonly excess: number;
}

/** Multiply-adds that checking one unit may cost: its sample is drawn to stay below. */
const unitCost = 4e6;
const attentionCost = 3e7;
/** Units with more unrecorded nodes than this are sampled thinly: every row costs a walk through all of them. */
const deepUnit = 24;
/** Units with more unrecorded nodes than this round in too many places for their bits to be given back. */
const bitsReach = 10;
const sampleLimits: SampleLimits = { rows: 48, columns: 512 };
const deepLimits: SampleLimits = { rows: 16, columns: 512 };
const probeLimits: SampleLimits = { rows: 6, columns: 192 };
const ownLimits: SampleLimits = { rows: 12, columns: 512 };
const probedUnits = 3;

interface Shared {
  readonly observations: CaptureObservations;
  readonly precision: Precision;
  readonly book: RecipeBook;
}

/** One recording, one checkpoint, and the spec between them. */
export class Investigation {
  readonly graph: Graph;
  readonly observations: CaptureObservations;
  readonly precision: Precision;
  /** The spec evaluated on the recording's own inputs, with a variance that covers every legal rounding. */
  readonly evaluator: Evaluator;
  readonly book: RecipeBook;
  /** The checkpoint's parameters as the runtime holds them. */
  readonly parameters: ParameterReader;
  /** Surprise from which a statement counts, by the size of the recording. */
  readonly limit: number;
  readonly #recipes = new Map<string, UnitRecipe>();
  readonly #samples = new Map<string, Sample>();
  readonly #interiors = new Map<string, readonly GraphNode[]>();

  constructor(
    readonly capture: Capture,
    readonly config: ModelConfig,
    parameters: ParameterReader,
    shared: Partial<Shared> & { evaluator?: Evaluator } = {},
  ) {
    this.observations = shared.observations ?? new CaptureObservations(capture, decoderGraph(config));
    this.graph = shared.evaluator?.graph ?? this.observations.graph;
    this.precision = shared.precision ?? {
      store: storeType(this.observations, this.graph, capture),
      compute: "float32",
    };
    this.parameters = heldAs(parameters, this.precision.store);
    this.book = shared.book ?? new RecipeBook(this.precision.store);
    this.limit = surpriseLimit(recordedElements(capture));
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

  /** The same investigation under another compute precision. */
  withCompute(compute: Precision["compute"]): Investigation {
    const { observations } = this;
    return new Investigation(this.capture, this.config, this.parameters, {
      observations,
      precision: { ...this.precision, compute },
    });
  }

  /** The same investigation with a rewritten spec in place of the spec. */
  withSpec(evaluator: Evaluator): Investigation {
    const { capture, config, parameters, observations, precision, book } = this;
    return new Investigation(capture, config, parameters, { observations, precision, book, evaluator });
  }

  /** Captured values whose production was recorded, in the spec's order: one unit each. */
  units(): GraphNode[] {
    return [...this.graph.nodes.values()].filter((node) => this.observations.outputRows(node.name).length > 0);
  }

  /** The unit's own node and the unrecorded nodes it rests on, nearest first. */
  interior(name: string, graph: Graph = this.graph): readonly GraphNode[] {
    const known = graph === this.graph ? this.#interiors.get(name) : undefined;
    if (known) return known;
    const found = new Map([[name, graph.node(name)]]);
    for (const node of found.values()) {
      for (const input of node.inputs) {
        if (!found.has(input) && !this.observations.has(input)) found.set(input, graph.node(input));
      }
    }
    const interior = [...found.values()];
    if (graph === this.graph) this.#interiors.set(name, interior);
    return interior;
  }

  isDeep(name: string): boolean {
    return this.interior(name).length > deepUnit;
  }

  /** Whether a unit is small enough for a recipe to give its bits. */
  hasBits(name: string): boolean {
    return this.interior(name).length <= bitsReach;
  }

  /** The elements of a unit that are checked. */
  sample(name: string): Sample {
    let sample = this.#samples.get(name);
    if (!sample) {
      sample = this.#draw(name, this.#limitsFor(name));
      this.#samples.set(name, sample);
    }
    return sample;
  }

  /** Rows and columns of a unit's sample: fewer where an element costs more. */
  #limitsFor(name: string): SampleLimits {
    if (this.isDeep(name)) return deepLimits;
    const { op, inputs, columns } = this.graph.node(name);
    const { rows, columns: most } = sampleLimits;
    if (op.kind === "attention") {
      const table = this.observations.rows;
      const candidates = this.observations.outputRows(name);
      let keys = 0;
      for (const row of candidates) keys += table.keyCount(row);
      const perRow = (2 * columns * keys) / Math.max(1, candidates.length);
      return { rows: Math.max(4, Math.min(rows, Math.floor(attentionCost / perRow))), columns: columns };
    }
    if (op.kind !== "linear") return sampleLimits;
    const elements = Math.max(1024, unitCost / this.graph.node(inputs[0]!).columns);
    const fewer = Math.min(rows, Math.max(16, Math.floor(elements / most)));
    return {
      rows: fewer,
      columns: Math.min(most, Math.floor(elements / Math.min(fewer, this.observations.outputRows(name).length || 1))),
    };
  }

  #draw(name: string, limits: SampleLimits): Sample {
    return drawSample(this.graph.node(name), this.observations.outputRows(name), this.observations.rows, limits);
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

  /** Units checked once more under a rewrite: by the recipes that the unit and its role are known to have, then by the noise model. */
  checkRewritten(name: string, evaluator: Evaluator, more: readonly UnitRecipe[] = []): UnitCheck {
    const known = [...more, this.#recipes.get(name), this.book.settled.get(roleOf(name))?.recipe];
    for (const recipe of new Set(known)) {
      if (!recipe) continue;
      const check = this.checkUnder(name, recipe, evaluator);
      if (check.matched) return check;
    }
    return this.checkNoise(name, evaluator);
  }

  /** Checks a unit: by the bits of the run's recipe, of any other recipe, and where none is in reach by the noise model. */
  check(name: string): UnitCheck {
    const check = this.#check(name);
    if (check.recipe) this.#recipes.set(name, check.recipe);
    return check;
  }

  #check(name: string): UnitCheck {
    const sample = this.sample(name);
    if (!this.hasBits(name)) return this.checkNoise(name);
    const node = this.graph.node(name);
    const settled = this.book.settle(node, () => this.#search(this.#probes(node)));
    const check = this.checkUnder(name, settled.recipe, this.evaluator, sample);
    if (check.matched) return check;
    // A layer may depart from its siblings; where none of them was given back, neither is this one.
    if (!settled.score.matched && !settled.probes.includes(name))
      return { ...this.checkNoise(name), recipe: check.recipe, bits: check.bits };
    const own = this.book.search(this.#search([name], ownLimits));
    const departing = this.checkUnder(name, own.recipe, this.evaluator, sample);
    if (departing.matched) {
      // Or the few elements of the probes could not tell two recipes apart.
      this.book.refine(node, own.recipe, () => this.#search(this.#probes(node)));
      return departing;
    }
    const noise = this.checkNoise(name);
    const nearest = (departing.bits?.equal ?? 0) > (check.bits?.equal ?? 0) ? departing : check;
    return { ...noise, recipe: nearest.recipe, bits: nearest.bits };
  }

  /** Recipes under which a rewrite of a unit is tried: what its role rounds like, or where no unit of it could tell, all there are. */
  recipesFor(name: string): UnitRecipe[] {
    const node = this.graph.node(name);
    const settled = this.book.settled.get(roleOf(name));
    const usual = this.book.start(this.interior(name));
    if (settled?.score.matched) return [settled.recipe];
    const found = this.#recipes.get(name) ?? settled?.recipe;
    const all = (node.op.recipes ?? [])
      .filter(({ refines }) => refines === undefined)
      .map((recipe) => usual.with({ op: [roleOf(name), recipe] }));
    return [usual, ...(found ? [found] : []), ...all];
  }

  /** Takes note of a recipe that explained a unit together with a cause: its siblings are tried under it first. */
  remember(name: string, recipe: UnitRecipe): void {
    this.#recipes.set(name, recipe);
  }

  /** Checks a unit against the bits of one recipe. */
  checkUnder(
    name: string,
    recipe: UnitRecipe,
    evaluator: Evaluator,
    sample: Sample = this.sample(name),
    include?: Included,
  ): UnitCheck {
    const node = this.graph.node(name);
    const { rows, columns } = sample;
    const observed = this.observed(name, rows, columns);
    const dtype = this.observations.dtype(name)!;
    const quiet = evaluator.under(recipe, node, false);
    const bits = matchBits(quiet, name, sample, observed, dtype, this.limit, include);
    // In float32 every element differs in its last places, and all of them together are held against the sum's own error.
    const emulated = dtype === "float32" ? quiet.withNoise() : quiet;
    const whole = compareBlock(emulated.evaluate(name, rows, columns), observed, dtype, rows, columns);
    const comparison = include ? subset(whole, include) : whole;
    const statistics = statisticsOf(comparison);
    const together = dtype === "float32" ? excess(statistics, this.limit) : 0;
    const matched = bits.surprise <= this.limit && together <= 1;
    const beyond = matched ? Math.max(together, bits.surprise / this.limit) : Infinity;
    return { node, recipe, bits, matched, comparison, statistics, excess: beyond };
  }

  /** Checks a unit by the noise model under the spec, or under `evaluator`'s rewrite of it. */
  checkNoise(
    name: string,
    evaluator: Evaluator = this.evaluator,
    sample: Sample = this.sample(name),
    include?: Included,
  ): UnitCheck {
    const { rows, columns } = sample;
    const block = evaluator.evaluate(name, rows, columns);
    const dtype = this.observations.dtype(name)!;
    const whole = compareBlock(block, this.observed(name, rows, columns), dtype, rows, columns);
    const comparison = include ? subset(whole, include) : whole;
    const statistics = statisticsOf(comparison);
    // Rows that attend over the same uncertain keys do not err independently.
    const shared = this.interior(name).some(
      ({ op, inputs }) => op.kind === "attention" && inputs.slice(1).some((input) => !this.observations.has(input)),
    );
    return {
      node: this.graph.node(name),
      recipe: undefined,
      bits: undefined,
      matched: false,
      comparison,
      statistics,
      excess: excess(shared ? { ...statistics, distinctRows: 1 } : statistics, this.limit),
    };
  }

  /** Units of the same role on which its recipe is settled: from the first, the middle and the last layers that hold numbers. */
  #probes(node: GraphNode): string[] {
    const siblings = this.units()
      .filter((other) => roleOf(other.name) === roleOf(node.name) && this.hasBits(other.name))
      .map(({ name }) => name);
    const alive = siblings.filter((name) => {
      const { rows, columns } = this.#draw(name, { rows: 2, columns: 64 });
      return this.observed(name, rows, columns).some((x) => x !== 0 && Number.isFinite(x));
    });
    const from = alive.length > 0 ? alive : siblings;
    const places = [0, (from.length - 1) >> 1, from.length - 1].slice(0, probedUnits);
    return [...new Set(places.map((i) => from[i]!))];
  }

  #search(names: readonly string[], limits = probeLimits): RecipeSearch {
    const probes = names.map((name) => ({ name, sample: this.#draw(name, limits) }));
    const table = this.observations.rows;
    return {
      names,
      graph: this.graph,
      // The first layer reads the embeddings, which no kernel recomputes: a later one has all choices.
      interior: this.interior(names.at(-1)!),
      isRecorded: (name) => this.observations.has(name),
      longest: Math.max(...probes.flatMap(({ sample }) => Array.from(sample.rows, (row) => table.keyCount(row)))),
      score: (recipe) => {
        let equal = 0;
        let compared = 0;
        let matched = true;
        for (const { name, sample } of probes) {
          const check = this.checkUnder(name, recipe, this.evaluator, sample);
          equal += check.bits?.equal ?? (check.matched ? 1 : 1 / Math.max(1, check.excess));
          compared += check.bits?.compared ?? 1;
          matched &&= check.matched;
        }
        return { equal, compared, matched };
      },
    };
  }
}

/** The elements of a comparison that `include` keeps; the others count as unchecked. */
function subset(comparison: Comparison, include: Included): Comparison {
  const width = comparison.columns.length;
  const noise = comparison.noise.map((sigma, i) => (include(Math.floor(i / width), i % width) ? sigma : Infinity));
  return { ...comparison, noise, z: comparison.z.map((z, i) => (noise[i] === Infinity ? 0 : z)) };
}

/** Elements a recording holds: so many statements can be made about it. */
function recordedElements(capture: Capture): number {
  return capture.records.reduce((sum, record) => {
    if ("pages" in record) return sum + [...record.pages.values()].reduce((n, { entry }) => n + entry.byteLength, 0);
    return sum + record.view.shape.reduce((product, n) => product * n, 1);
  }, 0);
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
