import type { CauseId } from "../../diagnose/causes/catalogue.js";
import type { AttentionAttributes } from "../../spec/ops/attention.js";
import type { RmsNormAttributes } from "../../spec/ops/rmsnorm.js";
import type { RopeAttributes } from "../../spec/ops/rope-attributes.js";
import { choose, type Fault, type FaultContext, fault, type Injection, layerPath } from "../fault.js";
import { handAttention } from "../hand-attention.js";
import { handNorm } from "../hand-norm.js";
import { handRope } from "../hand-rope.js";
import { attributesOf, elementwise, gathered, spoilt, withOp } from "../rewrite.js";

/** Two changes of one op that show in one value. */
interface Pair {
  readonly unit: string;
  readonly expected: readonly [CauseId, CauseId];
  readonly inject: (context: FaultContext, name: string) => Injection["nodes"];
}

const pairs: Readonly<Record<string, Pair>> = {
  norm: {
    unit: "post_attention_layernorm",
    expected: ["norm-mean-subtracted", "norm-weight-offset"],
    inject({ graph, store }, name) {
      const a = attributesOf<RmsNormAttributes>(graph, name);
      const centre = (group: Float64Array) => group.reduce((sum, x) => sum + x, 0) / group.length;
      const inverse = (group: Float64Array) => {
        const mean = centre(group);
        return 1 / Math.sqrt(group.reduce((sum, x) => sum + (x - mean) ** 2, 0) / group.length + a.epsilon);
      };
      return [withOp(graph, name, handNorm(a, store, inverse, { offset: 1, centre }))];
    },
  },
  scores: {
    unit: "self_attn.o_proj.input",
    expected: ["softmax-scale", "soft-cap"],
    inject({ graph }, name) {
      const a = attributesOf<AttentionAttributes>(graph, name);
      return [withOp(graph, name, handAttention(a, { score: (score) => 5 * Math.tanh((2 * score) / 5) }))];
    },
  },
  rotation: {
    unit: "self_attn.q_rope",
    expected: ["rope-interleaved", "position-offset"],
    inject({ graph }, name) {
      const a = attributesOf<RopeAttributes>(graph, name);
      return [withOp(graph, name, handRope(a, { neighbours: true, position: (_, position) => position + 3 }))];
    },
  },
  product: {
    unit: "mlp.up_proj",
    expected: ["operand-unnormed", "columns-unwritten"],
    inject({ graph }, name) {
      const node = graph.node(name);
      const unnormed = { ...node, inputs: graph.node(node.inputs[0]!).inputs };
      const part = gathered((_, column) => (column < (3 * node.columns) / 4 ? {} : undefined));
      return spoilt(graph.with([unnormed]), name, part);
    },
  },
  sum: {
    unit: "",
    expected: ["residual-doubled", "branch-scaled"],
    inject: ({ graph }, name) => [
      withOp(
        graph,
        name,
        elementwise(2, ([x, y]) => 2 * x! + y! / 2),
      ),
    ],
  },
};

const chosen = ({ values }: FaultContext) => pairs[String(values.op)]!;
const unitOf = (context: FaultContext, layer: number) =>
  [layerPath(layer).path, chosen(context).unit].filter(Boolean).join(".");

/** Two things wrong in one op. */
export const pairFaults: readonly Fault[] = [
  fault({
    id: "T00-two-in-one",
    title: "two things wrong in one op",
    kind: "kernel",
    transform: "T6",
    expected: Object.values(pairs).flatMap(({ expected }) => expected),
    together: 2,
    parameters: (random) => ({ op: choose(random, Object.keys(pairs)) }),
    firstBad: (context, layer) => [unitOf(context, layer)],
    inject: (context, layer) => ({ nodes: chosen(context).inject(context, unitOf(context, layer))! }),
  }),
];
