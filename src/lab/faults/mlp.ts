import { choose, type Fault, fault, layerPath } from "../fault.js";
import { exchangedParameters } from "../overlay.js";
import { elementwise, withOp } from "../rewrite.js";

const product = (layer: number) => `${layerPath(layer).mlp}.down_proj.input`;

/** Activations by the names that configs have for them. */
const activations: Readonly<Record<string, (x: number) => number>> = {
  silu: (x) => x / (1 + Math.exp(-x)),
  gelu_pytorch_tanh: (x) => (x / 2) * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x))),
  quick_gelu: (x) => x / (1 + Math.exp(-1.702 * x)),
  relu: (x) => Math.max(0, x),
  relu2: (x) => (x > 0 ? x * x : 0),
  relu6: (x) => Math.max(0, Math.min(6, x)),
  leaky_relu: (x) => Math.max(x, 0.01 * x),
  mish: (x) => x * Math.tanh(Math.log(1 + Math.exp(x))),
  tanh: (x) => 1 - 2 / (Math.exp(2 * x) + 1),
  sigmoid: (x) => 1 / (1 + Math.exp(-x)),
  identity: (x) => x,
};

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
    inject({ parameters }, layer) {
      const [gate, up] = ["gate", "up"].map((half) => `${layerPath(layer).mlp}.${half}_proj`) as [string, string];
      return { parameters: exchangedParameters(parameters, gate, up) };
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
        Object.keys(activations).filter((name) => name !== config.activation),
      ),
    }),
    firstBad: (_, layer) => [`${layerPath(layer).mlp}.act_fn`],
    inject({ graph, values }, layer) {
      const activation = activations[String(values.activation)]!;
      return {
        nodes: [
          withOp(
            graph,
            `${layerPath(layer).mlp}.act_fn`,
            elementwise(1, ([x]) => activation(x!)),
          ),
        ],
      };
    },
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
      return {
        nodes: [
          {
            ...withOp(
              graph,
              product(layer),
              elementwise(1, ([x]) => x!),
            ),
            inputs: [input],
          },
        ],
      };
    },
  }),
];
