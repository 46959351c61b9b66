import { type Arithmetic, RoundedArithmetic } from "../spec/arithmetic.js";
import { Graph, type GraphNode } from "../spec/graph.js";
import type { Precision } from "../spec/noise.js";
import type { AttentionAttributes } from "../spec/ops/attention.js";
import type { LinearAttributes } from "../spec/ops/linear.js";
import { type RmsNormAttributes, rmsNorm } from "../spec/ops/rmsnorm.js";
import { type RopeAttributes, rope } from "../spec/ops/rope.js";
import type { ParameterReader } from "../tensor/checkpoint.js";
import { type DType, roundTo } from "../tensor/dtype.js";
import { choose } from "./fault.js";
import { flashAttention } from "./flash-attention.js";
import { type ChangedParameter, wholeParameter } from "./overlay.js";
import { type SummationChoices, toTf32, withArithmetic } from "./rounding.js";

/** A correct implementation of a graph, drawn at random. */
export interface Implementation {
  readonly graph: Graph;
  /** Rounding of stores. */
  readonly arithmetic: Arithmetic;
  readonly precision: Precision;
  /** Values fused away, so that nothing can record them. */
  readonly unrecorded: ReadonlySet<string>;
  readonly parameters: ReadonlyMap<string, ChangedParameter>;
  /** What was drawn, for reports. */
  readonly description: Readonly<Record<string, unknown>>;
}

/** Plain float32 arithmetic with every value stored: the run that faults are put into. */
export function plainImplementation(graph: Graph, store: DType): Implementation {
  const choices = { store, roundBetween: false, block: 16, reversed: false };
  return {
    graph,
    arithmetic: new RoundedArithmetic(choices),
    precision: { store, compute: "float32" },
    unrecorded: new Set(),
    parameters: new Map(),
    description: choices,
  };
}

/** Values that fused kernels often do not write at all. */
const fusable = ["q_proj", "k_proj", "q_norm", "k_norm", "input_layernorm", "gate_proj", "up_proj", "o_proj.input"];

/**
 * Draws a correct implementation: orders of summation and places of rounding per node, values kept in float32 while a
 * rounded copy is recorded, values fused away, softmax in tiles, norm weights folded into the next product.
 */
export function legalImplementation(
  graph: Graph,
  parameters: ParameterReader,
  store: DType,
  random: () => number,
): Implementation {
  const chance = (probability: number) => random() < probability;
  const tf32 = store === "float32" && chance(0.3);
  // Hugging Face computes RoPE angles by a matrix product, which tensor cores take part in.
  const tf32Angles = tf32 && chance(0.5);
  const kept = {
    stream: chance(0.4),
    norms: chance(0.25),
    products: chance(0.15),
    interior: chance(0.5),
    rotated: chance(0.15),
  };
  const flash = chance(0.5)
    ? {
        tile: choose(random, [1, 4, 16, 64]),
        probabilities: choose<DType>(random, [store, "float32"]),
        base2: chance(0.5),
      }
    : undefined;
  const folded = chance(0.2);
  const roundBetween = choose(random, ["always", "never", "mixed"]);
  const fused = chance(0.4) ? fusable.filter(() => chance(0.3)) : [];
  const draw = (product: boolean): SummationChoices => ({
    store,
    roundBetween: roundBetween === "always" || (roundBetween === "mixed" && chance(0.5)),
    block: choose(random, [1, 4, 16, 32, 128, 4096]),
    lanes: choose(random, [1, 1, 4, 8, 32]),
    reversed: chance(0.5),
    fused: chance(0.5),
    tf32: tf32 && product,
  });

  const fold = folded ? foldNorms(graph, parameters, store) : { nodes: [], parameters: new Map(), unrecorded: [] };
  const implemented = [...graph.with(fold.nodes).nodes.values()].map((node): GraphNode => {
    let op = node.op;
    if (op.kind === "attention" && flash && "heads" in op.attributes && !("lookAhead" in op.attributes)) {
      return { ...node, op: flashAttention(op.attributes as unknown as AttentionAttributes, flash) };
    }
    if (op.kind === "rope" && "inverseFrequencies" in op.attributes) {
      const attributes = op.attributes as unknown as RopeAttributes;
      op = rope({
        ...attributes,
        inverseFrequencies: attributes.inverseFrequencies.map(tf32Angles ? toTf32 : Math.fround),
      });
    }
    return { ...node, op: withArithmetic(op, draw(op.kind === "linear" || op.kind === "attention")) };
  });
  return {
    graph: new Graph(implemented),
    arithmetic: new RoundedArithmetic({
      store,
      roundBetween: false,
      block: 1,
      reversed: false,
      kept: (name) => keptClass(name, kept),
    }),
    precision: { store, compute: tf32 ? "tf32" : "float32" },
    unrecorded: new Set([
      ...fold.unrecorded,
      ...[...graph.nodes.keys()].filter((name) => fused.some((suffix) => name.endsWith(`.${suffix}`))),
    ]),
    parameters: fold.parameters,
    description: { store, tf32, tf32Angles, kept, flash, folded, roundBetween, fused },
  };
}

interface Kept {
  stream: boolean;
  norms: boolean;
  products: boolean;
  interior: boolean;
  rotated: boolean;
}

/** Whether the value stays in float32 between its producer and its consumers. */
function keptClass(name: string, kept: Kept): boolean {
  if (/layers\.\d+$|layernorm\.input$|embed_tokens$/.test(name)) return kept.stream;
  if (/act_fn$|down_proj\.input$/.test(name)) return kept.interior;
  if (/norm$/.test(name)) return kept.norms;
  if (/rope$|cache$/.test(name)) return kept.rotated;
  return kept.products && /proj$|self_attn$|mlp$/.test(name);
}

/** Norm weights multiplied into the weights of the products that read them, rounded once more. */
function foldNorms(graph: Graph, parameters: ParameterReader, store: DType) {
  const nodes: GraphNode[] = [];
  const changed = new Map<string, ChangedParameter>();
  const unrecorded: string[] = [];
  for (const node of graph.nodes.values()) {
    if (!/input_layernorm$|post_attention_layernorm$/.test(node.name) || node.op.kind !== "rmsnorm") continue;
    const readers = graph.consumers(node.name).map((name) => graph.node(name));
    const attributes = node.op.attributes as unknown as RmsNormAttributes;
    if (!attributes.weight || !readers.every((reader) => reader.op.kind === "linear")) continue;
    const gamma = parameters.rows(attributes.weight, 0, 1);
    nodes.push({ ...node, op: rmsNorm({ ...attributes, weight: undefined }) });
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
