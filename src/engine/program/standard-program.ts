import type { Graph, GraphNode } from "../../spec/graph.js";
import { InputError } from "../../tensor/errors.js";
import { aliasesOf, executionOrder, originOf } from "./dataflow.js";
import type { Rotation } from "./rotation.js";
import type { HostStep, PointwiseStep, Step } from "./step.js";
import { attributesOf, refuse, type StepOp, stepOpOf } from "./typed-node.js";

/** Values that are another one under a second name, or the choice of its last rows. */
const names = new Set(["identity", "select"]);

/**
 * The spec as steps, one per op, from token ids to logits; the last op, which samples, is the sampler's.
 * @param onHost values that the spec itself computes, on the host, whatever kernels there are.
 * @throws InputError naming a value whose op, or an attribute of it, no kernel computes.
 */
export function standardProgram(graph: Graph, onHost: ReadonlySet<string> = new Set()): Step[] {
  const steps: Step[] = [];
  for (const node of executionOrder(graph)) {
    const step = onHost.has(node.name) ? hostStep(node, graph) : kernelStep(node, graph);
    if (step) steps.push(step);
  }
  return steps;
}

/** Undefined for a value that needs no step of its own. */
function kernelStep(node: GraphNode, graph: Graph): Step | undefined {
  if (names.has(node.op.kind)) {
    if (node.op.kind === "select" && node.op.attributes.rowOf) refuse(node, "rowOf of select");
    return undefined;
  }
  if (node.op.kind === "argmax") return undefined;
  const kind = stepOpOf(node);
  if (!kind) refuse(node, `the op ${node.op.kind}`);
  return makers[kind](node, graph);
}

/** Whether kernels compute a value, as steps of their own. */
export function hasKernel(node: GraphNode, graph: Graph): boolean {
  try {
    kernelStep(node, graph);
    return true;
  } catch (error) {
    if (error instanceof InputError) return false;
    throw error;
  }
}

/** @throws InputError for a value that is no result of one op on the rows of others. */
function hostStep(node: GraphNode, graph: Graph): HostStep {
  if (["append", "argmax", ...names].includes(node.op.kind))
    throw new InputError(`${node.name}: expected an op that computes, ${node.op.kind} stays on the device`);
  const chosen = node.inputs.map((name) => graph.node(name)).filter(({ op }) => op.kind === "select");
  const inputs = node.inputs.map((name) => {
    const read = graph.node(name);
    return originOf(graph, read.op.kind === "select" ? read.inputs[0]! : name);
  });
  return {
    kind: "host",
    label: `${lastWord(node)} on the host`,
    computes: [...chosen.map(({ name }) => name), ...aliasesOf(graph, node.name)],
    inputs: [...new Set(inputs)],
    output: node.name,
  };
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
  scale(node, graph) {
    const { factor } = attributesOf(node, "scale");
    return { ...pointwise(node, graph, "scale"), factor };
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

function pointwise(node: GraphNode, graph: Graph, operation: PointwiseStep["operation"]): PointwiseStep {
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
