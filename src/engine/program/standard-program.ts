import type { Graph, GraphNode } from "../../spec/graph.js";
import { aliasesOf, originOf } from "./dataflow.js";
import type { Rotation } from "./rotation.js";
import type { Step } from "./step.js";
import { attributesOf, refuse, type StepOp, stepOpOf } from "./typed-node.js";

/** Values that are another one under a second name, or the choice of its last rows. */
const names = new Set(["identity", "select"]);

/**
 * The spec as steps, one per op, from token ids to logits; the last op, which samples, is the sampler's.
 * @throws InputError naming a value whose op, or an attribute of it, no kernel computes.
 */
export function standardProgram(graph: Graph): Step[] {
  const steps: Step[] = [];
  for (const node of graph.nodes.values()) {
    if (names.has(node.op.kind)) {
      if (node.op.kind === "select" && node.op.attributes.rowOf) refuse(node, "rowOf of select");
      continue;
    }
    if (node.op.kind === "argmax") continue;
    const kind = stepOpOf(node);
    if (!kind) refuse(node, `the op ${node.op.kind}`);
    steps.push(makers[kind](node, graph));
  }
  return steps;
}

/** The last word of a value's name says which it is among the ops of its kind. */
function lastWord(node: GraphNode): string {
  return node.name.slice(node.name.lastIndexOf(".") + 1);
}

function input(graph: Graph, node: GraphNode, index = 0): string {
  return originOf(graph, node.inputs[index]!);
}

const makers: { readonly [Kind in StepOp]: (node: GraphNode, graph: Graph) => Step } = {
  embedding: (node, graph) => ({
    kind: "embed",
    label: "embedding",
    computes: aliasesOf(graph, node.name),
    table: attributesOf(node, "embedding").weight,
    output: node.name,
  }),
  rmsnorm(node, graph) {
    const { weight, epsilon, width } = attributesOf(node, "rmsnorm");
    if (weight === undefined) refuse(node, "a norm without weight");
    return {
      kind: "norm",
      label: lastWord(node),
      computes: aliasesOf(graph, node.name),
      input: input(graph, node),
      output: node.name,
      weight,
      epsilon,
      width,
    };
  },
  linear(node, graph) {
    const { weight, bias } = attributesOf(node, "linear");
    const selected = graph.node(node.inputs[0]!);
    const lastRows = selected.op.kind === "select";
    return {
      kind: "project",
      label: lastWord(node),
      computes: [...(lastRows ? [selected.name] : []), ...aliasesOf(graph, node.name)],
      input: input(graph, lastRows ? selected : node),
      outputs: [node.name],
      weights: [weight],
      biases: bias === undefined ? [] : [bias],
      lastRows,
    };
  },
  rope: (node, graph) => ({
    kind: "rotate",
    label: lastWord(node),
    computes: aliasesOf(graph, node.name),
    input: input(graph, node),
    output: node.name,
    rotation: rotationOf(node),
  }),
  append(node, graph) {
    attributesOf(node, "append");
    const reader = graph.consumers(node.name).map((name) => graph.node(name))[0];
    if (reader?.op.kind !== "attention") refuse(node, "a cache that no attention reads");
    const holds = reader.inputs.indexOf(node.name) === 1 ? "keys" : "values";
    return {
      kind: "append",
      label: lastWord(node),
      computes: aliasesOf(graph, node.name),
      caches: [{ cache: node.name, input: input(graph, node), holds }],
    };
  },
  attention(node, graph) {
    const { heads, keyValueHeads, headDim, scale, softCap, windowLeft } = attributesOf(node, "attention");
    return {
      kind: "attend",
      label: "attention",
      computes: aliasesOf(graph, node.name),
      query: input(graph, node),
      keys: input(graph, node, 1),
      values: input(graph, node, 2),
      output: node.name,
      heads,
      kvHeads: keyValueHeads,
      headDim,
      scale,
      softCap: softCap ?? 0,
      windowLeft: windowLeft ?? -1,
      causal: true,
      mergedBy: "itself",
    };
  },
  activation(node, graph) {
    const { activation } = attributesOf(node, "activation");
    if (activation !== "silu") refuse(node, `the activation ${activation}`);
    return pointwise(node, graph, "silu");
  },
  multiply(node, graph) {
    attributesOf(node, "multiply");
    return pointwise(node, graph, "multiply");
  },
  add(node, graph) {
    const { weights } = attributesOf(node, "add");
    if (weights.length !== 2 || weights.some((weight) => weight !== 1)) refuse(node, "a weighted sum");
    return pointwise(node, graph, "add");
  },
};

function pointwise(node: GraphNode, graph: Graph, operation: "silu" | "multiply" | "add"): Step {
  return {
    kind: "pointwise",
    label: operation,
    computes: aliasesOf(graph, node.name),
    operation,
    inputs: node.inputs.map((name) => originOf(graph, name)),
    output: node.name,
  };
}

function rotationOf(node: GraphNode): Rotation {
  const { headDim, rotaryDim, inverseFrequencies, attentionFactor, pairing } = attributesOf(node, "rope");
  if (rotaryDim !== headDim) refuse(node, "RoPE of some channels of a head");
  if (pairing !== "half") refuse(node, `RoPE of ${pairing} pairs`);
  return { heads: node.columns / headDim, headDim, inverseFrequencies, attentionFactor };
}
