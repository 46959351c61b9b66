import type { AttentionAttributes } from "../../spec/ops/attention.js";
import { roundTo } from "../../tensor/dtype.js";
import { choose, type Fault, type FaultContext, fault, integer, layerPath } from "../fault.js";
import { handAttention } from "../hand-attention.js";
import { wholeParameter } from "../overlay.js";
import { gaussian, randomGenerator } from "../random.js";
import { attributesOf, elementwise, spoilt, withOp } from "../rewrite.js";

const projections = ["self_attn.q_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj"];
const chosen = ({ values }: FaultContext, layer: number) => `${layerPath(layer).path}.${values.projection}`;

/** A number from 0 to 1 that belongs to a place. */
function draw(...place: readonly number[]): number {
  return randomGenerator(place.reduce((seed, x) => (Math.imul(seed, 31) + x) | 0, 17))();
}

/** What training leaves behind: dropout, adapters. */
export const trainingFaults: readonly Fault[] = [
  fault({
    id: "T11-low-rank-delta",
    title: "an adapter left in a weight",
    kind: "parameter",
    transform: "T19",
    expected: ["low-rank-delta"],
    parameters: (random) => ({
      projection: choose(random, projections),
      rank: choose(random, [1, 2, 4]),
      size: choose(random, [0.05, 0.3]),
      seed: integer(random, 1, 1000),
    }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const name = `${chosen(context, layer)}.weight`;
      const { shape, values } = wholeParameter(context.parameters, name);
      const [rows, columns] = shape as [number, number];
      const random = randomGenerator(Number(context.values.seed));
      const rank = Number(context.values.rank);
      const [up, down] = [rows, columns].map((n) => Float64Array.from({ length: n * rank }, () => gaussian(random)));
      const delta = values.map((_, i) => {
        const [r, c] = [Math.floor(i / columns), i % columns];
        let sum = 0;
        for (let k = 0; k < rank; k++) sum += up![r * rank + k]! * down![c * rank + k]!;
        return sum;
      });
      const norm = (x: Float64Array) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
      const factor = (Number(context.values.size) * norm(values)) / norm(delta);
      const changed = values.map((w, i) => roundTo(w + factor * delta[i]!, context.store));
      return { parameters: new Map([[name, { shape, values: changed }]]) };
    },
  }),
  fault({
    id: "T14-branch-dropout",
    title: "dropout left on behind a branch",
    kind: "seam",
    transform: "T14",
    expected: ["dropout"],
    parameters: (random) => ({ share: choose(random, [0.1, 0.2, 0.5]), seed: integer(random, 1, 1000) }),
    firstBad: (_, layer) => [layerPath(layer).path],
    inject({ graph, values, store }, layer) {
      const { path, mlp } = layerPath(layer);
      const share = Number(values.share);
      const op = elementwise(2, ([stream, branch], row, column) =>
        draw(Number(values.seed), row, column) < share
          ? stream!
          : stream! + roundTo(Math.fround(branch! / (1 - share)), store),
      );
      const node = graph.node(path);
      return { nodes: [{ ...node, op, inputs: [node.inputs[0]!, mlp] }] };
    },
  }),
  fault({
    id: "T14-attention-dropout",
    title: "dropout left on in attention",
    kind: "seam",
    transform: "T14",
    expected: ["dropout"],
    hiddenWhen: "rows with one key",
    parameters: (random) => ({ share: choose(random, [0.1, 0.3]), seed: integer(random, 1, 1000) }),
    applies: (config, _store, layer) => config.windowLeft(layer) === undefined,
    firstBad: (_, layer) => [`${layerPath(layer).attn}.o_proj.input`],
    inject({ graph, values }, layer) {
      const name = `${layerPath(layer).attn}.o_proj.input`;
      const share = Number(values.share);
      const weights = (exponentials: readonly number[], row: number, head: number) =>
        exponentials.map((x, j) => (draw(Number(values.seed), row, head, j) < share ? 0 : x / (1 - share)));
      return {
        nodes: [withOp(graph, name, handAttention(attributesOf<AttentionAttributes>(graph, name), { weights }))],
      };
    },
  }),
  fault({
    id: "T06-branch-share",
    title: "a branch multiplied by a number on no list",
    kind: "seam",
    transform: "T11",
    expected: ["branch-scaled"],
    parameters: (random) => ({ factor: choose(random, [0.7, 0.9, 1.3]) }),
    firstBad: (_, layer) => [layerPath(layer).path],
    inject({ graph, values, store }, layer) {
      const { path, mlp } = layerPath(layer);
      const op = elementwise(1, ([x]) => roundTo(Number(values.factor) * x!, store));
      const [right, scaled] = spoilt(graph, mlp, op);
      const node = graph.node(path);
      const branch = { ...scaled!, name: `${mlp} scaled` };
      return { nodes: [right!, branch, { ...node, inputs: [node.inputs[0]!, branch.name] }] };
    },
  }),
];
