import type { ParameterReader } from "../tensor/checkpoint.js";
import type { DType } from "../tensor/dtype.js";
import { roundAll } from "../tensor/rounding.js";
import { floats } from "../tensor/scratch.js";
import { type Arithmetic, exactArithmetic } from "./arithmetic.js";
import { byPhase } from "./by-phase.js";
import { assemble, keptBlock, pick, type Row, rowOf, unknownRow } from "./evaluated-row.js";
import type { Graph, GraphNode } from "./graph.js";
import { type Precision, storeVariance } from "./noise.js";
import { areAll, type Block, indices, type MutableBlock, type Op, type OpContext, type OpRounding } from "./op.js";
import { isCopy } from "./ops/identity.js";
import type { UnitRecipe } from "./recipe.js";
import type { RowTable } from "./rows.js";
import { roleOf } from "./site.js";
import { storeNoise } from "./store-noise.js";

/** Where evaluation stops: values somebody recorded. */
export interface Observations {
  /** Whether `name` was recorded at all: the cheap question, asked first. */
  has(name: string): boolean;
  /**
   * Elements of `name` as the op producing `consumer` addressed them, [rows, columns]; undefined for rows not recorded.
   * @param readAt step at whose time a KV cache is read.
   */
  row(name: string, row: number, consumer: string, readAt?: number): ObservedRow | undefined;
  /** What a row of a value that `op` leaves open was found to be from what follows of it. */
  settled?(name: string, row: number, op: Op): Float64Array | undefined;
  /** The values of many rows at once, [rows, columns]; undefined where one was not recorded, and `row` tells which. */
  block?(name: string, rows: Int32Array, consumer: string, readAt?: number): Float64Array | undefined;
}

/**
 * One recorded row of a value: all its columns. `exact` when the consumer cannot have seen more digits than the record;
 * `error`, relative, where all of them were multiplied by a scale that is known no better.
 */
export interface ObservedRow {
  readonly value: Float64Array;
  readonly dtype: DType;
  readonly exact: boolean;
  readonly error?: number;
}

export interface EvaluatorOptions {
  readonly graph: Graph;
  readonly parameters: ParameterReader;
  readonly rows: RowTable;
  readonly precision: Precision;
  readonly observations?: Observations;
  readonly arithmetic?: Arithmetic;
  /** Propagate rounding variance; off for plain forward evaluation. */
  readonly noise?: boolean;
  /** The roundings to emulate; absent: exact values, and a variance that covers every legal rounding. */
  readonly recipe?: UnitRecipe | undefined;
  /** Layer of the unit that `recipe` belongs to. */
  readonly recipeLayer?: number | undefined;
}

const nothingUncertain = new Float64Array(0);

/** An error that all terms of a sum share adds up; counted as independent ones, so many times: head_dim, or keys. */
const commonTerms = 256;

/** Variants whose rows are remembered for rewrites under the same roundings, latest first. */
const mostVariants = 6;

const nothing: Observations = { has: () => false, row: () => undefined };

/**
 * Evaluates elements of the spec on demand. A request recurses through inputs until it meets recorded values or the
 * checkpoint; rows of unrecorded values are remembered, so that shared sub-graphs are computed once.
 */
export class Evaluator {
  readonly graph: Graph;
  readonly rows: RowTable;
  readonly precision: Precision;
  readonly parameters: ParameterReader;
  readonly observations: Observations;
  readonly arithmetic: Arithmetic;
  readonly noise: boolean;
  readonly recipe: UnitRecipe | undefined;
  readonly recipeLayer: number | undefined;
  readonly #memory = new Map<string, Map<number, Row>>();
  readonly #base: Evaluator | undefined;
  readonly #changed = new Map<string, boolean>();
  #variants: readonly Evaluator[] = [];

  constructor(options: EvaluatorOptions, base?: Evaluator) {
    this.graph = options.graph;
    this.rows = options.rows;
    this.precision = options.precision;
    this.parameters = options.parameters;
    this.observations = options.observations ?? nothing;
    this.arithmetic = options.arithmetic ?? exactArithmetic;
    this.noise = options.noise ?? false;
    this.recipe = options.recipe;
    this.recipeLayer = options.recipeLayer;
    this.#base = base;
  }

  /** The same evaluation of a rewritten graph; what the rewrite does not touch is taken from here. */
  rewritten(replacements: Iterable<GraphNode>): Evaluator {
    return new Evaluator({ ...this, graph: this.graph.with(replacements) }, this);
  }

  /** The same graph under the roundings of `recipe`, which belongs to `unit`. */
  under(recipe: UnitRecipe, unit: GraphNode, noise: boolean): Evaluator {
    return this.#variant(recipe, unit.layer, noise);
  }

  /** The same with variances. */
  withNoise(): Evaluator {
    return this.noise ? this : this.#variant(this.recipe, this.recipeLayer, true);
  }

  /** The same by values alone. */
  withoutNoise(): Evaluator {
    return this.noise ? this.#variant(this.recipe, this.recipeLayer, false) : this;
  }

  /** A rewrite shares what it does not touch with what it rewrites, under the same roundings. */
  #variant(recipe: UnitRecipe | undefined, recipeLayer: number | undefined, noise: boolean): Evaluator {
    const base = this.#base === undefined ? undefined : this.#base.#known(recipe, recipeLayer, noise);
    return new Evaluator({ ...this, recipe, recipeLayer, noise }, base);
  }

  /** One of the latest variants, or a new one. */
  #known(recipe: UnitRecipe | undefined, recipeLayer: number | undefined, noise: boolean): Evaluator {
    const latest = this.#variants;
    const same = (of: Evaluator) => of.recipe === recipe && of.recipeLayer === recipeLayer && of.noise === noise;
    const found = latest.find(same) ?? this.#variant(recipe, recipeLayer, noise);
    this.#variants = [found, ...latest.filter((other) => other !== found)].slice(0, mostVariants);
    return found;
  }

  /** What the spec means by `name`, from the recorded inputs of its unit; its own record is not consulted. */
  evaluate(name: string, rows: Int32Array, columns?: Int32Array): Block {
    const node = this.graph.node(name);
    const wanted = columns ?? indices(node.columns);
    return byPhase(this.recipe, this.rows, rows, wanted.length, (own, recipe) =>
      node.op.evaluate(this.#context(node, recipe), own, wanted),
    );
  }

  /** Elements of `name` as `consumer` gets them: recorded ones as recorded, others evaluated. */
  read(name: string, rows: Int32Array, consumer: string, columns?: Int32Array, readAt?: number): Block {
    const node = this.graph.node(name);
    const wanted = columns ?? indices(node.columns);
    const recorded = this.observations.has(name);
    const recomputed = recorded && (this.recipe?.ways.some((way) => this.#recomputes(node, way)) ?? false);
    if (recorded && !recomputed && !this.noise && this.observations.block && areAll(wanted, node.columns)) {
      const value = this.observations.block(name, rows, consumer, readAt);
      if (value) return { value, variance: nothingUncertain };
    }
    // A copy of what is recorded costs less than remembering it does.
    if (!recorded && isCopy(node.op) && this.observations.has(node.inputs[0]!))
      return this.#stored(node, rows, wanted, readAt);
    const out: Row[] = new Array(rows.length);
    const missing: number[] = [];
    const memory = this.#memoryOf(name);
    for (let i = 0; i < rows.length; i++) {
      const row = rows[i]!;
      const readBack = recorded && !(recomputed && this.#recomputes(node, this.recipe!.at(this.rows.phaseOf(row))));
      const observed = readBack ? this.observations.row(name, row, consumer, readAt) : undefined;
      if (observed) out[i] = this.#fromObservation(observed);
      else if ((this.rows.stepOf[row] ?? -1) < 0) out[i] = unknownRow(node.columns);
      else {
        const known = memory.get(row);
        if (known) out[i] = known;
        else missing.push(i);
      }
    }
    if (missing.length > 0 && columns && columns.length < node.columns) {
      return this.#mixPartial(node, rows, wanted, out, missing, readAt);
    }
    if (missing.length > 0) this.#compute(node, rows, out, missing, readAt);
    return assemble(out, wanted, node.columns, this.noise);
  }

  /** Drops remembered rows of every value `keep` does not name: bounds the memory of long generations. */
  forget(keep: (name: string) => boolean): void {
    for (const name of this.#memory.keys()) if (!keep(name)) this.#memory.delete(name);
  }

  #memoryOf(name: string): Map<number, Row> {
    if (this.#base && !this.#isChanged(name)) return this.#base.#memoryOf(name);
    let memory = this.#memory.get(name);
    if (!memory) {
      memory = new Map();
      this.#memory.set(name, memory);
    }
    return memory;
  }

  /** Whether a rewrite reaches `name` without passing a recorded value. */
  #isChanged(name: string): boolean {
    const known = this.#changed.get(name);
    if (known !== undefined) return known;
    const node = this.graph.find(name);
    let changed = this.#base!.graph.find(name) !== node;
    if (!changed && node) changed = node.inputs.some((input) => this.#isChanged(input));
    this.#changed.set(name, changed);
    return changed;
  }

  #compute(node: GraphNode, rows: Int32Array, out: Row[], missing: readonly number[], readAt?: number): void {
    const unique = [...new Set(missing.map((i) => rows[i]!))];
    const block = keptBlock(this.#stored(node, Int32Array.from(unique), indices(node.columns), readAt));
    const memory = this.#memoryOf(node.name);
    for (let i = 0; i < unique.length; i++) memory.set(unique[i]!, rowOf(block, i, node.columns));
    for (const i of missing) out[i] = memory.get(rows[i]!)!;
  }

  /** Few columns of rows that are not remembered: computed for this request alone. */
  #mixPartial(node: GraphNode, rows: Int32Array, columns: Int32Array, out: Row[], missing: number[], readAt?: number) {
    const block = this.#stored(
      node,
      Int32Array.from(missing, (i) => rows[i]!),
      columns,
      readAt,
    );
    const size = columns.length;
    for (let m = 0; m < missing.length; m++) out[missing[m]!] = rowOf(block, m, size);
    const isMissing = new Set(missing);
    const mixed = out.map((row, i) => (isMissing.has(i) ? row : pick(row, columns)));
    return assemble(mixed, indices(size), size, this.noise);
  }

  /** Whether the unit's kernel had this recorded value in float32 instead of reading it back. */
  #recomputes(node: GraphNode, { recomputed }: UnitRecipe): boolean {
    return recomputed.size > 0 && recomputed.has(placedRole(node, this.recipeLayer));
  }

  #stored(node: GraphNode, rows: Int32Array, columns: Int32Array, readAt?: number): Block {
    return byPhase(this.recipe, this.rows, rows, columns.length, (own, recipe) =>
      this.#storedUnder(recipe, node, own, columns, readAt),
    );
  }

  #storedUnder(
    recipe: UnitRecipe | undefined,
    node: GraphNode,
    rows: Int32Array,
    columns: Int32Array,
    readAt?: number,
  ): Block {
    const block = node.op.evaluate(this.#context(node, recipe, readAt), rows, columns);
    const { value, variance } = block;
    if (!recipe) {
      if (this.noise) {
        const store = node.op.dtype ?? this.precision.store;
        for (let i = 0; i < value.length; i++) variance[i]! += storeVariance(value[i]!, store);
      }
      return block;
    }
    // Another name of a value is not another store.
    if (node.op.stored || node.op.kind === "identity" || node.op.kind === "select") return block;
    if (recipe.kept.has(roleOf(node)) || this.#recomputes(node, recipe)) return block;
    const store = node.op.dtype ?? recipe.store;
    const out: MutableBlock = { value, variance, jump: undefined, range: block.range };
    if (this.noise) storeNoise(out, block.jump, store);
    roundAll(value, store);
    return out;
  }

  #fromObservation(observed: ObservedRow): Row {
    if (!this.noise) return observed;
    // A fused consumer may have used more digits than were stored: one rounding of the input is legal either way. Under a
    // recipe it read what is recorded.
    const variance = floats(observed.value.length);
    const { error = 0 } = observed;
    if (error > 0) {
      for (let i = 0; i < variance.length; i++) variance[i] = commonTerms * (error * observed.value[i]!) ** 2;
    } else if (!observed.exact && !this.recipe) {
      for (let i = 0; i < variance.length; i++) variance[i] = storeVariance(observed.value[i]!, observed.dtype);
    }
    return { value: observed.value, variance };
  }

  #rounding(node: GraphNode, recipe: UnitRecipe | undefined): OpRounding | undefined {
    if (!recipe) return undefined;
    const store = node.op.dtype ?? recipe.store;
    // In float64 nothing is rounded inside an op: only stores are.
    if (this.precision.compute === "float64") return { store, settings: {} };
    const chosen = recipe.ops.get(roleOf(node)) ?? node.op.recipes?.[0];
    return { store, settings: chosen?.settings ?? {} };
  }

  #context(node: GraphNode, recipe: UnitRecipe | undefined, readAt?: number): OpContext {
    return {
      rows: this.rows,
      parameters: this.parameters,
      arithmetic: this.arithmetic,
      precision: node.op.dtype ? { ...this.precision, store: node.op.dtype } : this.precision,
      noise: this.noise,
      rounding: this.#rounding(node, recipe),
      input: (index, rows, columns, at) => this.read(node.inputs[index]!, rows, node.name, columns, at ?? readAt),
      width: (index) => this.graph.node(node.inputs[index]!).columns,
      recorded: (row) =>
        this.observations.has(node.name) ? this.observations.row(node.name, row, node.name)?.value : undefined,
      settled: (row) => this.observations.settled?.(node.name, row, node.op),
    };
  }
}

/** The role of a value, with its distance in layers from the unit: a chain of residuals has the same role in every layer. */
export function placedRole(node: GraphNode, unitLayer: number | undefined): string {
  return `${(node.layer ?? 0) - (unitLayer ?? 0)} ${roleOf(node)}`;
}
