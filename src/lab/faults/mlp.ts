import { type ActivationName, activation } from "../../spec/ops/activation.js";
import { identity } from "../../spec/ops/identity.js";
import { choose, type Fault, fault, layerPath } from "../fault.js";
import { withOp } from "../rewrite.js";

const product = (layer: number) => `${layerPath(layer).mlp}.down_proj.input`;

export const mlpFaults: readonly Fault[] = [
  fault({
    id: "I09-gate-up-swapped",
    title: "activation on up instead of gate",
    kind: "seam",
    transform: "T12",
    expected: ["gate-up-swapped"],
    firstBad: (_, layer) => [product(layer)],
    inject({ graph }, layer) {
      const { mlp } = layerPath(layer);
      return {
        nodes: [
          { ...graph.node(`${mlp}.act_fn`), name: `${mlp}.act_fn of up`, inputs: [`${mlp}.up_proj`] },
          { ...graph.node(product(layer)), inputs: [`${mlp}.act_fn of up`, `${mlp}.gate_proj`] },
        ],
        unrecorded: [`${mlp}.act_fn`],
      };
    },
  }),
  fault({
    id: "I09-gate-up-weights-swapped",
    title: "gate and up weights exchanged when packed",
    kind: "parameter",
    transform: "T12",
    expected: ["gate-up-swapped", "operand-swapped"],
    firstBad: (_, layer) => ["gate", "up"].map((half) => `${layerPath(layer).mlp}.${half}_proj`),
    inject({ graph }, layer) {
      const [gate, up] = ["gate", "up"].map((half) => `${layerPath(layer).mlp}.${half}_proj`) as [string, string];
      return { nodes: [withOp(graph, gate, graph.node(up).op), withOp(graph, up, graph.node(gate).op)] };
    },
  }),
  fault({
    id: "C6-activation-wrong",
    title: "another activation",
    kind: "parameter",
    transform: "T19",
    expected: ["activation-wrong"],
    parameters: (random, config) => ({
      activation: choose(
        random,
        ["silu", "gelu", "gelu_pytorch_tanh", "relu", "sigmoid", "identity"].filter(
          (name) => name !== config.activation,
        ),
      ),
    }),
    firstBad: (_, layer) => [`${layerPath(layer).mlp}.act_fn`],
    inject: ({ graph, values }, layer) => ({
      nodes: [withOp(graph, `${layerPath(layer).mlp}.act_fn`, activation(values.activation as ActivationName))],
    }),
  }),
  fault({
    id: "C6-multiply-missing",
    title: "activated gate not multiplied with up",
    kind: "kernel",
    transform: "T11",
    expected: ["multiply-missing"],
    parameters: (random) => ({ kept: choose(random, ["gate", "up"]) }),
    firstBad: (_, layer) => [product(layer)],
    inject({ graph, values }, layer) {
      const { mlp } = layerPath(layer);
      const input = values.kept === "gate" ? `${mlp}.act_fn` : `${mlp}.up_proj`;
      return { nodes: [{ ...withOp(graph, product(layer), identity()), inputs: [input] }] };
    },
  }),
];
