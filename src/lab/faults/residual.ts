import type { Op } from "../../spec/op.js";
import { choose, type Fault, type FaultContext, type FaultValues, fault, layerPath } from "../fault.js";
import { elementwise, withOp } from "../rewrite.js";

const branches = ["attention", "mlp"];

function sumOf({ values }: FaultContext, layer: number): string {
  const { path } = layerPath(layer);
  return values.branch === "attention" ? `${path}.post_attention_layernorm.input` : path;
}

/** The stream and the branch, each so many times; a product that is not exact is rounded on its way as float32 is. */
function weighted([stream, branch]: readonly number[]): Op {
  return elementwise(2, ([x, y]) => Math.fround(stream! * x!) + Math.fround(branch! * y!));
}

/** A fault in one of the layer's two additions: weights of the stream and of the branch. */
function addition(
  definition: Pick<Fault, "id" | "title" | "expected"> & Partial<Fault>,
  weights: (values: FaultValues) => readonly number[],
): Fault {
  return fault({
    kind: "seam",
    transform: "T11",
    parameters: (random) => ({ branch: choose(random, branches) }),
    firstBad: (context, layer) => [sumOf(context, layer)],
    inject: (context, layer) => ({
      nodes: [withOp(context.graph, sumOf(context, layer), weighted(weights(context.values)))],
    }),
    ...definition,
  });
}

export const residualFaults: readonly Fault[] = [
  addition({ id: "I63-residual-dropped", title: "branch without its residual", expected: ["residual-dropped"] }, () => [
    0, 1,
  ]),
  addition({ id: "I63-residual-doubled", title: "residual added twice", expected: ["residual-doubled"] }, () => [2, 1]),
  addition(
    {
      id: "I63-residual-per-rank",
      title: "residual added once per rank",
      expected: ["residual-scaled", "residual-doubled"],
      parameters: (random) => ({ branch: choose(random, branches), ranks: choose(random, [4, 8]) }),
    },
    ({ ranks }) => [Number(ranks), 1],
  ),
  addition(
    {
      id: "I64-branch-scaled",
      title: "all-reduce missing, doubled or of whole outputs",
      expected: ["branch-scaled", "branch-dropped"],
      parameters: (random) => ({ branch: choose(random, branches), factor: choose(random, [0.5, 2, 4, 0]) }),
    },
    ({ factor }) => [1, Number(factor)],
  ),
  addition(
    { id: "I63-branch-subtracted", title: "branch subtracted", expected: ["branch-scaled", "residual-subtracted"] },
    () => [1, -1],
  ),
  fault({
    id: "I63-residual-misdirected",
    title: "MLP's residual is the layer's input, not the sum after attention",
    kind: "seam",
    transform: "T12",
    expected: ["residual-misdirected", "residual-dropped"],
    firstBad: (_, layer) => [layerPath(layer).path],
    inject({ graph }, layer) {
      const { path } = layerPath(layer);
      const stream = graph.node(`${path}.post_attention_layernorm.input`).inputs[0]!;
      const node = graph.node(path);
      return { nodes: [{ ...node, inputs: [stream, node.inputs[1]!] }] };
    },
  }),
];
