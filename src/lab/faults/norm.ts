import type { ModelConfig } from "../../spec/models/config.js";
import type { Op } from "../../spec/op.js";
import type { RmsNormAttributes } from "../../spec/ops/rmsnorm.js";
import { choose, type Fault, type FaultContext, fault, type Injection, layerPath, streamInto } from "../fault.js";
import { handNorm, mean, meanSquare } from "../hand-norm.js";
import { exchangedParameters } from "../overlay.js";
import { attributesOf, elementwise, withOp } from "../rewrite.js";

const hiddenNorms = ["input_layernorm", "post_attention_layernorm"];
const headNorms = ["self_attn.q_norm", "self_attn.k_norm"];

const chosen = ({ values }: FaultContext, layer: number) => `${layerPath(layer).path}.${values.norm}`;
const passedOn = elementwise(1, ([x]) => x!);
const summed = elementwise(2, ([x, y]) => x! + y!);
const hasHeadNorms = (config: ModelConfig) => config.queryKeyNorm;

/** A fault that computes one norm of the layer otherwise. */
function norm(
  definition: Pick<Fault, "id" | "title" | "kind" | "transform" | "expected" | "hiddenWhen"> & {
    settings: readonly Record<string, number | string>[];
    norms?: readonly string[];
    hand: (attributes: RmsNormAttributes, context: FaultContext) => Op;
  },
): Fault {
  const { settings, norms, hand, ...rest } = definition;
  return fault({
    ...rest,
    applies: (config) => norms !== headNorms || config.queryKeyNorm,
    parameters: (random, config) => ({
      norm: choose(random, norms ?? (config.queryKeyNorm ? [...hiddenNorms, ...headNorms] : hiddenNorms)),
      ...choose(random, settings),
    }),
    firstBad: (context, layer) => [chosen(context, layer)],
    inject(context, layer) {
      const name = chosen(context, layer);
      const attributes = attributesOf<RmsNormAttributes>(context.graph, name);
      return { nodes: [withOp(context.graph, name, hand(attributes, context))] };
    },
  });
}

/** What a group is multiplied by as it is meant. */
const rightly = (a: RmsNormAttributes) => (group: Float64Array) => 1 / Math.sqrt(meanSquare(group) + a.epsilon);

/** Weights of two norms that changed places when they were loaded. */
function exchangedNorms(context: FaultContext, layer: number): Injection {
  return { parameters: exchangedParameters(context.parameters, ...pair(context, layer)) };
}

function pair({ values }: FaultContext, layer: number): [string, string] {
  const { path } = layerPath(layer);
  const names = values.norms === "head" ? headNorms : hiddenNorms;
  return [`${path}.${names[0]}`, `${path}.${names[1]}`];
}

function sides({ values }: FaultContext, layer: number, value: string): string[] {
  const letters = values.side === "both" ? ["q", "k"] : [values.side];
  return letters.map((letter) => `${layerPath(layer).attn}.${letter}_${value}`);
}

const side = (random: () => number) => ({ side: choose(random, ["q", "k", "both"]) });

export const normFaults: readonly Fault[] = [
  norm({
    id: "I01-norm-epsilon",
    title: "RMSNorm with another epsilon",
    kind: "parameter",
    transform: "T6",
    expected: ["norm-epsilon"],
    hiddenWhen: "mean square far above the epsilon",
    settings: [{ epsilon: 1e-5 }, { epsilon: 1e-3 }, { epsilon: 0.02 }],
    norms: hiddenNorms,
    hand: (a, { values, store }) =>
      handNorm(a, store, (group) => 1 / Math.sqrt(meanSquare(group) + Number(values.epsilon))),
  }),
  norm({
    id: "I19-head-norm-epsilon",
    title: "QK-norm with another epsilon",
    kind: "parameter",
    transform: "T6",
    expected: ["norm-epsilon"],
    hiddenWhen: "mean square far above the epsilon",
    settings: [{ epsilon: 1e-3 }, { epsilon: 0.05 }],
    norms: headNorms,
    hand: (a, { values, store }) =>
      handNorm(a, store, (group) => 1 / Math.sqrt(meanSquare(group) + Number(values.epsilon))),
  }),
  norm({
    id: "I02-norm-weight-offset",
    title: "norm weight taken as stored minus one (or plus one)",
    kind: "seam",
    transform: "T6",
    expected: ["norm-weight-offset"],
    hiddenWhen: "never",
    settings: [{ offset: 1 }, { offset: -1 }],
    hand: (a, { values, store }) => handNorm(a, store, rightly(a), { offset: Number(values.offset) }),
  }),
  norm({
    id: "I02-norm-weight-absent",
    title: "norm without its weight",
    kind: "seam",
    transform: "T6",
    expected: ["norm-weight-absent"],
    hiddenWhen: "all weights 1",
    settings: [{}],
    hand: (a, { store }) => handNorm({ ...a, weight: undefined }, store, rightly(a)),
  }),
  norm({
    id: "I03-norm-mean-subtracted",
    title: "LayerNorm instead of RMSNorm",
    kind: "kernel",
    transform: "T6",
    expected: ["norm-mean-subtracted"],
    hiddenWhen: "rows of mean 0",
    settings: [{}],
    hand: (a, { store }) =>
      handNorm(a, store, (group) => rightly(a)(group.map((x) => x - mean(group))), { centre: mean }),
  }),
  norm({
    id: "I05-norm-divisor",
    title: "mean of squares over a padded width",
    kind: "kernel",
    transform: "T6",
    expected: ["scaled", "norm-divisor"],
    hiddenWhen: "never",
    settings: [{ padding: 1.125 }, { padding: 1.5 }, { padding: 2 }],
    norms: hiddenNorms,
    hand: (a, { values, store }) => {
      const divisor = Math.round(a.width * Number(values.padding));
      return handNorm(a, store, (group) => 1 / Math.sqrt((meanSquare(group) * a.width) / divisor + a.epsilon));
    },
  }),
  norm({
    id: "I16-norm-across-heads",
    title: "QK-norm over all heads together",
    kind: "kernel",
    transform: "T6",
    expected: ["norm-across-heads"],
    hiddenWhen: "heads of equal mean square, or one head",
    settings: [{}],
    norms: headNorms,
    hand: (a, { config, values, store }) => {
      const heads = values.norm === "self_attn.q_norm" ? config.headCount : config.keyValueHeadCount;
      return handNorm(a, store, rightly(a), { together: heads * config.headDim });
    },
  }),
  fault({
    id: "I15-norm-missing",
    title: "QK-norm left out",
    kind: "seam",
    transform: "T13",
    expected: ["norm-missing"],
    applies: hasHeadNorms,
    parameters: side,
    firstBad: (context, layer) => sides(context, layer, "norm"),
    inject: (context, layer) => ({
      nodes: sides(context, layer, "norm").map((name) => withOp(context.graph, name, passedOn)),
    }),
  }),
  fault({
    id: "I17-norm-weights-swapped",
    title: "weights of two norms exchanged",
    kind: "parameter",
    transform: "T19",
    expected: ["norm-weights-swapped"],
    hiddenWhen: "equal weights",
    parameters: (random, config) => ({
      norms: config.queryKeyNorm ? choose(random, ["head", "hidden"]) : "hidden",
    }),
    firstBad: (context, layer) => pair(context, layer),
    inject: exchangedNorms,
  }),
  fault({
    id: "I18-norm-after-rope",
    title: "QK-norm after RoPE",
    kind: "kernel",
    transform: "T13",
    expected: ["norm-after-rope"],
    hiddenWhen: "position 0, or weights equal within pairs",
    applies: hasHeadNorms,
    parameters: side,
    firstBad: (context, layer) => sides(context, layer, "rope"),
    inject(context, layer) {
      const { graph } = context;
      const nodes = sides(context, layer, "rope").flatMap((name) => {
        const [normed] = graph.node(name).inputs as [string];
        const rotated = { ...graph.node(name), name: `${name} before norm`, inputs: graph.node(normed).inputs };
        return [rotated, { ...graph.node(name), op: graph.node(normed).op, inputs: [rotated.name] }];
      });
      return { nodes, unrecorded: sides(context, layer, "norm") };
    },
  }),
  fault({
    id: "I07-residual-normalised",
    title: "norm in place: the residual stream is the normalised one",
    kind: "seam",
    transform: "T12",
    expected: ["residual-misdirected"],
    hiddenWhen: "rows of mean square 1",
    parameters: (random) => ({ norm: choose(random, hiddenNorms), weighted: choose(random, [0, 1]) }),
    firstBad: (context, layer) => [residualAfter(context, layer).name],
    inject(context, layer) {
      const { graph, values } = context;
      const name = chosen(context, layer);
      const { name: sum, branch } = residualAfter(context, layer);
      const node = graph.node(name);
      const a = attributesOf<RmsNormAttributes>(graph, name);
      const bare = handNorm({ ...a, weight: undefined }, context.store, rightly(a));
      const stream = { ...node, name: `${name} in place`, op: values.weighted ? node.op : bare };
      return { nodes: [stream, { ...graph.node(sum), op: summed, inputs: [stream.name, branch] }] };
    },
  }),
  fault({
    id: "I02-final-norm-skipped",
    title: "final norm skipped",
    kind: "seam",
    transform: "T13",
    scope: "model",
    expected: ["final-norm-skipped", "norm-missing"],
    parameters: (random) => ({ recorded: choose(random, ["skipped", "unused"]) }),
    firstBad: ({ values }) => [values.recorded === "skipped" ? "model.norm" : "lm_head"],
    inject({ graph, config, values }) {
      const last = streamInto(config.layerCount);
      if (values.recorded === "skipped") return { nodes: [withOp(graph, "model.norm", passedOn)] };
      return { nodes: [{ ...graph.node("lm_head.input"), inputs: [last] }] };
    },
  }),
];

/** The sum that reads the stream a norm left behind, and the branch added to it. */
function residualAfter({ values }: FaultContext, layer: number) {
  const { path, attn, mlp } = layerPath(layer);
  return values.norm === "input_layernorm"
    ? { name: `${path}.post_attention_layernorm.input`, branch: attn }
    : { name: path, branch: mlp };
}
