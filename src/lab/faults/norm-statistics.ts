import { identity } from "../../spec/ops/identity.js";
import type { RmsNormAttributes } from "../../spec/ops/rmsnorm.js";
import { roundTo } from "../../tensor/dtype.js";
import { choose, type Fault, type FaultContext, fault, layerPath } from "../fault.js";
import { handNorm } from "../hand-norm.js";
import { attributesOf, withOp } from "../rewrite.js";

const norms = ["input_layernorm", "post_attention_layernorm"];
const chosen = ({ values }: FaultContext, layer: number) => `${layerPath(layer).path}.${values.norm}`;

/** What a norm divides by. */
export const normStatisticsFaults: readonly Fault[] = [
  fault({
    id: "T06-norm-part",
    title: "the mean of squares over the first channels alone",
    kind: "kernel",
    transform: "T6",
    expected: ["norm-part"],
    parameters: (random) => ({ norm: choose(random, norms), share: choose(random, [0.25, 0.5, 0.75]) }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const a = attributesOf<RmsNormAttributes>(context.graph, chosen(context, layer));
      const op = handNorm(a, context.store, (group) => {
        const part = group.subarray(0, Math.floor(group.length * Number(context.values.share)));
        return 1 / Math.sqrt(part.reduce((sum, x) => sum + x * x, 0) / part.length + a.epsilon);
      });
      return { nodes: [withOp(context.graph, chosen(context, layer), op)] };
    },
  }),
  fault({
    id: "T06-norm-width",
    title: "the sum of squares divided by a width on no list",
    kind: "kernel",
    transform: "T6",
    expected: ["norm-divisor", "scaled"],
    parameters: (random) => ({ norm: choose(random, norms), factor: choose(random, [1.25, 1.5]) }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const a = attributesOf<RmsNormAttributes>(context.graph, chosen(context, layer));
      const op = handNorm(a, context.store, (group) => {
        const squares = group.reduce((sum, x) => sum + x * x, 0);
        return 1 / Math.sqrt(squares / (group.length * Number(context.values.factor)) + a.epsilon);
      });
      return { nodes: [withOp(context.graph, chosen(context, layer), op)] };
    },
  }),
  fault({
    id: "T16-norm-statistics-rounded",
    title: "squares, mean and root in 16 bits",
    kind: "kernel",
    transform: "T16",
    expected: ["norm-statistics-rounded"],
    hiddenWhen: "a root that 16 bits hold",
    applies: (_config, store) => store !== "float32",
    parameters: (random) => ({ norm: choose(random, norms) }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const { store } = context;
      const a = attributesOf<RmsNormAttributes>(context.graph, chosen(context, layer));
      const op = handNorm(a, store, (group) => {
        const mean = roundTo(group.reduce((sum, x) => sum + roundTo(x * x, store), 0) / group.length, store);
        return roundTo(1 / Math.sqrt(roundTo(mean + a.epsilon, store)), store);
      });
      return { nodes: [withOp(context.graph, chosen(context, layer), op)] };
    },
  }),
  fault({
    id: "I18-norm-module-idle",
    title: "QK-norm after RoPE, its module passing on what it gets",
    kind: "kernel",
    transform: "T13",
    expected: ["norm-after-rope"],
    hiddenWhen: "position 0, or weights equal within pairs",
    applies: (config) => config.queryKeyNorm,
    firstBad: (_, layer) =>
      ["q", "k"].flatMap((x) => ["norm", "rope"].map((y) => `${layerPath(layer).attn}.${x}_${y}`)),
    inject({ graph }, layer) {
      const nodes = ["q", "k"].flatMap((letter) => {
        const norm = graph.node(`${layerPath(layer).attn}.${letter}_norm`);
        const rope = graph.node(`${layerPath(layer).attn}.${letter}_rope`);
        const turned = { ...rope, name: `${rope.name} before norm` };
        return [{ ...norm, op: identity() }, turned, { ...rope, op: norm.op, inputs: [turned.name] }];
      });
      return { nodes };
    },
  }),
];
