import { type Arithmetic, RoundedArithmetic } from "../spec/arithmetic.js";
import { Graph, type GraphNode } from "../spec/graph.js";
import { operandFormat } from "../spec/narrow-operands.js";
import type { Precision } from "../spec/noise.js";
import type { Op } from "../spec/op.js";
import type { AttentionAttributes } from "../spec/ops/attention.js";
import type { LinearAttributes } from "../spec/ops/linear.js";
import { type RmsNormAttributes, rmsNorm } from "../spec/ops/rmsnorm.js";
import { type Recipe, UnitRecipe } from "../spec/recipe.js";
import { type Place, roleOf, type What } from "../spec/site.js";
import type { ChangedParameter } from "../tensor/changed-parameters.js";
import type { ParameterReader } from "../tensor/checkpoint.js";
import { type DType, roundTo } from "../tensor/dtype.js";
import { choose } from "./fault.js";
import { flashAttention } from "./flash-attention.js";
import { wholeParameter } from "./overlay.js";
import { type OrderChoices, withArithmetic } from "./rounding.js";

/** A correct implementation of a graph, drawn at random. */
export interface Implementation {
  readonly graph: Graph;
  /** Order of sums where the graph's own ops do not choose. */
  readonly arithmetic: Arithmetic;
  /** Where values are rounded. */
  readonly recipe: UnitRecipe;
  readonly precision: Precision;
  /** Values fused away, so that nothing can record them. */
  readonly unrecorded: ReadonlySet<string>;
  readonly parameters: ReadonlyMap<string, ChangedParameter>;
  /** What was drawn, for reports. */
  readonly description: Readonly<Record<string, unknown>>;
}

/** The commonest recipe of every op, float32 sums in blocks, every value stored: the run that faults are put into. */
export function plainImplementation(graph: Graph, store: DType): Implementation {
  const choices = { block: 16, reversed: false };
  return {
    graph,
    arithmetic: new RoundedArithmetic(choices),
    recipe: new UnitRecipe(store),
    precision: { store, compute: "float32" },
    unrecorded: new Set(),
    parameters: new Map(),
    description: { store, ...choices },
  };
}

/** Values that fused kernels often do not write at all. */
const fusable: readonly Partial<Place>[] = [
  { what: "query" },
  { what: "key" },
  { what: "query-norm" },
  { what: "key-norm" },
  { what: "norm", block: "attention" },
  { what: "gate" },
  { what: "up" },
  { what: "mixed" },
];

/**
 * Draws a correct implementation: a recipe per role, orders of summation per node, values kept in float32 while a rounded
 * copy is recorded, values fused away, softmax by another algorithm, norm weights folded into the next product.
 */
export function legalImplementation(
  graph: Graph,
  parameters: ParameterReader,
  store: DType,
  random: () => number,
): Implementation {
  const chance = (probability: number) => random() < probability;
  const tf32 = store === "float32" && chance(0.3);
  const kept = {
    stream: chance(0.25),
    norms: chance(0.15),
    products: chance(0.1),
    interior: chance(0.5),
    rotated: chance(0.1),
  };
  const flash = chance(0.3) ? drawFlash(random, store) : undefined;
  const folded = chance(0.15);
  const fused = chance(0.4) ? fusable.filter(() => chance(0.3)) : [];
  const draw = (): OrderChoices => ({
    block: choose(random, [1, 4, 16, 32, 128, 4096]),
    lanes: choose(random, [1, 1, 4, 8, 32]),
    reversed: chance(0.5),
    fused: chance(0.5),
  });
  const fold = folded ? foldNorms(graph, parameters, store) : { nodes: [], parameters: new Map(), unrecorded: [] };
  const recipes = new Map<string, Recipe>();
  const implemented = [...graph.with(fold.nodes).nodes.values()].map((node): GraphNode => {
    const { op } = node;
    if (op.kind === "attention" && flash && "heads" in op.attributes && !("lookAhead" in op.attributes)) {
      return { ...node, op: flashAttention(op.attributes as unknown as AttentionAttributes, flash) };
    }
    const role = roleOf(node);
    if (op.recipes && !recipes.has(role)) recipes.set(role, drawRecipe(op.recipes, store, tf32, random));
    return { ...node, op: withArithmetic(op, draw()) };
  });
  const description = {
    store,
    tf32,
    kept: Object.entries(kept).flatMap(([name, isKept]) => (isKept ? [name] : [])),
    flash,
    folded,
    fused: fused.map(({ what }) => what),
    recipes: Object.fromEntries([...recipes].map(([role, { id }]) => [role, id])),
  };
  return {
    graph: new Graph(implemented),
    arithmetic: new RoundedArithmetic({ block: 1, reversed: false }),
    recipe: new UnitRecipe(store, recipes, keptRoles(graph, kept)),
    precision: { store, compute: tf32 ? "tf32" : "float32" },
    unrecorded: new Set([
      ...fold.unrecorded,
      ...fused.flatMap(({ what, block }) => graph.all(what!, block).map(({ name }) => name)),
    ]),
    parameters: fold.parameters,
    description,
  };
}

function drawFlash(random: () => number, store: DType) {
  return {
    tile: choose(random, [1, 4, 16, 64]),
    probabilities: choose<DType>(random, [store, "float32"]),
    base2: random() < 0.5,
  };
}

/** A recipe of an op that the types of the run allow: narrow operands need float32, rounding to 16 bits 16-bit stores. */
function drawRecipe(recipes: readonly Recipe[], store: DType, tf32: boolean, random: () => number): Recipe {
  const isTf32 = ({ settings: { narrow, angle } }: Recipe) => narrow === "tf32" || angle === "tf32";
  const possible = recipes.filter((recipe) => {
    if (isTf32(recipe)) return tf32;
    if (operandFormat(recipe.settings)) return false;
    if (recipe.settings.fastExponential && store === "float32") return false;
    return recipe.refines === undefined || (store !== "float32" && random() < 0.2);
  });
  const forced = possible.filter(isTf32);
  return choose(random, forced.length > 0 && random() < 0.7 ? forced : possible);
}

interface Kept {
  readonly stream: boolean;
  readonly norms: boolean;
  readonly products: boolean;
  readonly interior: boolean;
  readonly rotated: boolean;
}

/** What of a decoder stays in float32 together. */
const keptTogether: Readonly<Record<keyof Kept, readonly What[]>> = {
  stream: ["stream", "embedding"],
  interior: ["activated", "gated"],
  norms: ["norm", "query-norm", "key-norm", "last-norm"],
  rotated: ["query-rotated", "key-rotated", "key-cache", "value-cache"],
  products: ["query", "key", "value", "gate", "up", "output", "branch"],
};

/** Roles of the values that stay in float32 between their producer and their consumers. */
function keptRoles(graph: Graph, kept: Kept): Set<string> {
  const parts = Object.keys(keptTogether) as (keyof Kept)[];
  return new Set(
    parts
      .filter((part) => kept[part])
      .flatMap((part) => keptTogether[part].flatMap((what) => graph.all(what).map(roleOf))),
  );
}

/** Norm weights multiplied into the weights of the products that read them, rounded once more. */
function foldNorms(graph: Graph, parameters: ParameterReader, store: DType) {
  const nodes: GraphNode[] = [];
  const changed = new Map<string, ChangedParameter>();
  const unrecorded: string[] = [];
  const readersOf = ({ attributes: { weight } }: Op) =>
    [...graph.nodes.values()].filter(({ op }) => op.attributes.weight === weight).length;
  for (const node of graph.nodes.values()) {
    if (node.name !== node.site.name || node.site.what !== "norm" || node.op.kind !== "rmsnorm") continue;
    const readers = graph.consumers(node.name).map((name) => graph.node(name));
    const attributes = node.op.attributes as unknown as RmsNormAttributes;
    // A weight in narrow numbers takes no other factor, and one that is read elsewhere too must stay as it is.
    const isPlain = ({ op }: GraphNode) =>
      op.kind === "linear" && !(op.attributes as unknown as LinearAttributes).weightFormat && readersOf(op) === 1;
    if (!attributes.weight || !readers.every(isPlain)) continue;
    const { weightOffset = 0, ...unweighted } = attributes;
    const gamma = parameters.rows(attributes.weight, 0, 1).map((w) => w + weightOffset);
    nodes.push({ ...node, op: rmsNorm({ ...unweighted, weight: undefined }) });
    unrecorded.push(node.name);
    for (const reader of readers) {
      const name = (reader.op.attributes as unknown as LinearAttributes).weight;
      const weight = wholeParameter(parameters, name);
      weight.values.forEach((w, i) => {
        weight.values[i] = roundTo(w * gamma[i % gamma.length]!, store);
      });
      changed.set(name, weight);
    }
  }
  return { nodes, parameters: changed, unrecorded };
}
